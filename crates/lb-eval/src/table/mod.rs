//! Tables of text, for a terminal, for Markdown, as comma-separated values. What has figures brings its columns.

pub(crate) mod cells;

use std::fmt;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle};
use serde::Serialize;

/// A column of rows `R`: its head, and the cell of a row.
pub(crate) type Column<'a, R> = (&'a str, &'a dyn Fn(&R) -> String);

/// Cells, the first row the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    /// A head without rows.
    pub(crate) fn new<T: ToString>(head: impl IntoIterator<Item = T>) -> Self {
        Self(vec![head.into_iter().map(|name| name.to_string()).collect()])
    }

    /// One row for each of `rows`.
    pub(crate) fn of<'r, R: 'r>(rows: impl IntoIterator<Item = &'r R>, columns: &[Column<'_, R>]) -> Self {
        let mut table = Self::new(columns.iter().map(|(name, _)| name));
        for row in rows {
            table.push(columns.iter().map(|(_, cell)| cell(row)).collect());
        }
        table
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.0.push(row);
    }
}

/// As reports want it.
#[cfg(feature = "loop")]
impl Table {
    /// Whether it has a head alone.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() < 2
    }

    /// Without the rows whose first cell is `name`.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|row| row.first().is_none_or(|first| first != name));
        self
    }

    /// As Markdown, numbers to the right.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for (at, row) in self.0.iter().enumerate() {
            let escaped: Vec<String> = row.iter().map(|cell| lb_io::shown::markdown(cell)).collect();
            out.extend(["| ", &escaped.join(" | "), " |\n"]);
            if at == 0 {
                out.extend(["|---|", &"---:|".repeat(row.len().saturating_sub(1)), "\n"]);
            }
        }
        out
    }

    /// As comma-separated values, a line a row.
    pub(crate) fn csv(&self) -> String {
        let line = |row: &Vec<String>| {
            let fields: Vec<String> = row.iter().map(|cell| lb_io::shown::csv(cell)).collect();
            fields.join(",") + "\n"
        };
        self.0.iter().map(line).collect()
    }
}

/// For a terminal.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        let mut rows = self.0.iter();
        table
            .load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
            .set_header(rows.next().cloned().unwrap_or_default());
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in rows {
            table.add_row(row.clone());
        }
        write!(f, "{table}")
    }
}

#[cfg(all(test, feature = "loop"))]
mod tests {
    use super::*;

    #[test]
    fn one_table_in_three_forms() {
        let rows = [("a|b", 0.25), ("=c,d", -0.5)];
        let columns: &[Column<'_, (&str, f64)>] =
            &[("name", &|row| row.0.to_owned()), ("share", &|row| format!("{:.2}", row.1))];
        let table = Table::of(&rows, columns);
        assert_eq!(table.markdown(), "| name | share |\n|---|---:|\n| a\\|b | 0.25 |\n| =c,d | -0.50 |\n");
        assert_eq!(table.csv(), "name,share\na|b,0.25\n\"'=c,d\",-0.50\n");
        let shown = table.to_string();
        assert!(
            shown.lines().any(|line| line.contains("a|b") && line.trim_end().ends_with("0.25")),
            "{shown}"
        );
        assert!(!table.is_empty() && table.without("a|b").0.len() == 2);
        assert!(Table::new(["alone"]).is_empty());
    }
}
