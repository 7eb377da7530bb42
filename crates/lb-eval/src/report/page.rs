//! The report as one self-contained page.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context, escape_formatter};
use serde::Serialize;

use super::cells::thousands;
use super::sections::{opening, sections};
use crate::answers::calibrate::Calibration;
use crate::answers::{AnswerRow, Summary, conditions};
use crate::{Error, Result};

const PAGE: &str = include_str!("page.html.jinja");
const STYLE: &str = include_str!("page.css");
/// Lines of the table of items; the rows have them all.
const ITEMS: usize = 2_000;
/// Characters of an answer that are shown.
const ANSWER: usize = 160;

pub(super) struct View<'a> {
    pub(super) summary: &'a Summary,
    pub(super) calibration: Option<&'a Calibration>,
    pub(super) torn: usize,
    pub(super) rows: &'a [AnswerRow],
    /// Pages of runs by their logs.
    pub(super) links: &'a BTreeMap<String, String>,
    /// Captions and data URIs.
    pub(super) plots: Vec<(&'a str, String)>,
}

#[derive(Serialize)]
struct Item {
    name: String,
    facts: String,
    expected: String,
    cells: Vec<Option<Cell>>,
}

#[derive(Serialize)]
struct Cell {
    class: &'static str,
    sign: &'static str,
    answer: String,
    link: Option<String>,
}

fn clip(text: &str) -> String {
    let mut shown: String = text.chars().take(ANSWER).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn items(view: &View<'_>) -> (Vec<Item>, usize) {
    let names = conditions(view.rows);
    let mut order: Vec<(&str, usize)> = Vec::new();
    let mut of: BTreeMap<(&str, usize), Vec<&AnswerRow>> = BTreeMap::new();
    for row in view.rows {
        let key = (row.item.as_str(), row.repeat);
        let rows = of.entry(key).or_default();
        if rows.is_empty() {
            order.push(key);
        }
        rows.push(row);
    }
    let item = |key: &(&str, usize)| {
        let rows = &of[key];
        let first = rows[0];
        let classes = [first.length.as_deref(), first.difficulty.as_deref(), Some(first.kind.as_str())];
        let mut facts: Vec<String> =
            classes.iter().flatten().filter(|c| !c.is_empty()).map(ToString::to_string).collect();
        facts.push(format!("{} tokens", thousands(first.context_tokens as f64)));
        if view.summary.repeats > 1 {
            facts.push(format!("run {}", key.1));
        }
        let cell = |name: &&str| rows.iter().find(|r| r.condition == **name).map(|r| cell(r, view));
        Item {
            name: key.0.to_owned(),
            facts: facts.join(", "),
            expected: clip(&first.expected),
            cells: names.iter().map(cell).collect(),
        }
    };
    let left_out = order.len().saturating_sub(ITEMS);
    (order.iter().take(ITEMS).map(item).collect(), left_out)
}

fn cell(row: &AnswerRow, view: &View<'_>) -> Cell {
    let (class, sign, answer) = match (&row.failure, row.right()) {
        (Some(reason), _) => ("failed", "!", clip(reason)),
        (None, true) => ("right", "✓", clip(&row.answer)),
        (None, false) => ("wrong", "✗", clip(&row.answer)),
    };
    let link = row.log.as_ref().and_then(|log| view.links.get(log)).cloned();
    Cell { class, sign, answer, link }
}

/// The page; all text is escaped, and nothing is loaded.
pub(super) fn render(view: &View<'_>) -> Result<String> {
    let (items, left_out) = items(view);
    let names = conditions(view.rows);
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => {
            escape_formatter(out, state, &Value::from(lb_io::shown::visible(text)))
        }
        _ => escape_formatter(out, state, value),
    });
    // A row of the table takes a few steps each; the default would not hold for large runs.
    environment.set_fuel(None);
    let page = environment.add_template("style", STYLE).and_then(|()| {
        environment.render_named_str(
            "page.html",
            PAGE,
            context! {
                datasets => view.summary.datasets.join(", "),
                opening => opening(view.summary, view.torn),
                sections => Value::from(Serde(&sections(view.summary, view.calibration))),
                plots => Value::from(Serde(&view.plots)),
                conditions => Value::from(Serde(&names)),
                items => Value::from(Serde(&items)),
                left_out,
                failures => Value::from(Serde(&view.summary.failures)),
            },
        )
    });
    page.map_err(|e| Error::Page(Box::new(e)))
}

/// Bytes of a PNG as a URI that holds them.
pub(super) fn data_uri(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes))
}
