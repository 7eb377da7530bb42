//! Token budget against decision fidelity: what each condition costs, and whether the next message and what is decided in it stay the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::retained::{Measured, Rank, RetainedRow, RetainedSummary};
use crate::stats::bootstrap::{Bootstrap, interval};
use crate::stats::{grouped, median};
use crate::table::cells::{percent, retained};
use crate::table::{Column, Table};
use crate::{Error, Result};

/// What a million tokens cost: `1.25,0.125,10`, input, input that was there already, output, in any currency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenPrice {
    /// Tokens that are read.
    pub input: f64,
    /// Positions that are attended to without being read again.
    pub cached: f64,
    /// Tokens that are written.
    pub output: f64,
}

impl Default for TokenPrice {
    fn default() -> Self {
        Self { input: 1.25, cached: 0.125, output: 10.0 }
    }
}

impl FromStr for TokenPrice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[input, cached, output])
                if [input, cached, output].iter().all(|price| price.is_finite() && *price >= 0.0) =>
            {
                Ok(Self { input, cached, output })
            }
            _ => Err(Error::config(
                "price",
                text,
                "want three prices of a million tokens: input,cached,output",
            )),
        }
    }
}

impl fmt::Display for TokenPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.input, self.cached, self.output)
    }
}

impl TokenPrice {
    /// Of one call.
    fn of(&self, measured: &Measured, written: usize) -> f64 {
        let parts = [
            measured.prefilled as f64 * self.input,
            measured.reused as f64 * self.cached,
            written as f64 * self.output,
        ];
        parts.iter().sum::<f64>() / 1e6
    }
}

/// A share with its interval over documents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share.
    pub share: f64,
    /// 95 % interval.
    pub ci95: [f64; 2],
    /// Of how many.
    pub of: usize,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// The condition, as text.
    pub handoff: String,
    /// What it retains of what the context is worth for the next message, with its interval.
    pub retained: Option<(f64, [f64; 2])>,
    /// Decisions that are those over the full cache.
    pub as_full: Option<Share>,
    /// Decisions that are the recorded ones.
    pub as_recorded: Option<Share>,
    /// Positions in the context and tokens of the message, mean.
    pub worker_tokens: f64,
    /// Of these, tokens that are read for the call, passes that make a briefing counted in, mean.
    pub prefilled: f64,
    /// Milliseconds until the message may begin: making what is handed over, reading it and the task; median.
    pub first_token_ms: f64,
    /// Of a thousand messages.
    pub price: f64,
    /// Effective rank of keys and values of the cache that it leaves, where that was asked for and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
}

/// The figures of every condition of `rows`, whose `summary` is theirs.
///
/// # Errors
/// Those of the bootstrap's settings.
pub fn fidelity(
    rows: &[RetainedRow],
    summary: &RetainedSummary,
    price: &TokenPrice,
    settings: &Bootstrap,
) -> Result<Vec<Fidelity>> {
    settings.validate()?;
    let good: Vec<&RetainedRow> = rows.iter().filter(|row| row.failure.is_none()).collect();
    let documents = grouped(good.iter().copied(), |row| row.document.as_str());
    let share = |hits: &dyn Fn(&RetainedRow) -> (usize, usize)| {
        let each: Vec<(usize, usize)> = documents
            .iter()
            .map(|(_, rows)| {
                rows.iter().map(|row| hits(row)).fold((0, 0), |sum, (hit, of)| (sum.0 + hit, sum.1 + of))
            })
            .collect();
        let of: usize = each.iter().map(|(_, of)| of).sum();
        let figure = interval(each.len(), settings, |drawn| {
            let sum = |part: fn(&(usize, usize)) -> usize| {
                drawn.iter().map(|at| part(&each[*at])).sum::<usize>() as f64
            };
            sum(|(hit, _)| *hit) / sum(|(_, of)| *of)
        });
        figure.ok().map(|figure| Share { share: figure.estimate, ci95: [figure.low, figure.high], of })
    };
    let condition = |(number, of): (usize, &crate::retained::ConditionSummary)| {
        let mean = |value: &dyn Fn(&RetainedRow, &Measured) -> f64| {
            good.iter().map(|row| value(row, &row.conditions[number])).sum::<f64>() / good.len().max(1) as f64
        };
        Fidelity {
            handoff: of.handoff.clone(),
            retained: of.retained.zip(of.ci95),
            as_full: share(&|row| same(&row.conditions[number].decided, &row.full.decided)),
            as_recorded: share(&|row| same(&row.conditions[number].decided, &row.chosen)),
            worker_tokens: of.worker_tokens,
            prefilled: mean(&|_, measured| measured.prefilled as f64),
            first_token_ms: median(
                good.iter().map(|row| &row.conditions[number]).map(|one| one.brief_ms + one.prefill_ms),
            ),
            price: 1e3 * mean(&|row, measured| price.of(measured, row.target_tokens)),
            rank: of.rank,
        }
    };
    Ok(summary.conditions.iter().enumerate().map(condition).collect())
}

/// How many decisions are the same, of those that both have.
fn same(one: &[Option<usize>], other: &[Option<usize>]) -> (usize, usize) {
    let both = one.iter().zip(other).filter_map(|(one, other)| Some((*one)? == (*other)?));
    both.fold((0, 0), |(hits, of), hit| (hits + usize::from(hit), of + 1))
}

/// One line for each condition.
pub fn table(all: &[Fidelity]) -> String {
    let share = |share: Option<Share>| {
        share.map_or_else(String::new, |Share { share, ci95: [low, high], .. }| {
            format!("{} ({:.1} to {:.1})", percent(share), 100.0 * low, 100.0 * high)
        })
    };
    let as_full = |of: &Fidelity| share(of.as_full);
    let as_recorded = |of: &Fidelity| share(of.as_recorded);
    let mut columns: Vec<Column<'_, Fidelity>> = vec![
        ("condition", &|of| of.handoff.clone()),
        ("retained (95 %)", &|of| retained(of.retained)),
        ("decides as the full cache", &as_full),
        ("as recorded", &as_recorded),
        ("worker tokens", &|of| format!("{:.0}", of.worker_tokens)),
        ("read", &|of| format!("{:.0}", of.prefilled)),
        ("ms to first token", &|of| format!("{:.0}", of.first_token_ms)),
        ("price of 1,000", &|of| format!("{:.2}", of.price)),
    ];
    if all.iter().all(|of| of.as_full.is_none()) {
        columns.drain(2..4);
    }
    if all.iter().any(|of| of.rank.is_some()) {
        columns.push(("rank of keys, values", &|of| {
            of.rank.map_or_else(String::new, |rank| format!("{:.1}, {:.1}", rank.keys, rank.values))
        }));
    }
    Table::of(all, &columns).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retained::summarise;

    fn row(document: &str, decided: [usize; 2], chosen: [usize; 2]) -> RetainedRow {
        let measured = |nll: f64, decided: [usize; 2]| Measured {
            handoff: "bm25:0.1".to_owned(),
            nll,
            prefilled: 1_000,
            reused: 2_000,
            brief_ms: 5.0,
            prefill_ms: 7.0,
            decided: decided.map(Some).to_vec(),
            ..Measured::default()
        };
        RetainedRow {
            item: format!("{document}#1"),
            document: document.to_owned(),
            seq_len: 100,
            target_tokens: 10,
            full: measured(1.0, [0, 0]),
            none: measured(2.0, [1, 1]),
            conditions: vec![measured(1.25, decided)],
            chosen: chosen.map(Some).to_vec(),
            ..RetainedRow::default()
        }
    }

    #[test]
    fn decisions_tokens_and_money_of_a_condition() {
        let rows = [row("a", [0, 1], [0, 1]), row("b", [0, 0], [1, 1])];
        let settings = Bootstrap::default();
        let summary = summarise("w", "d", &rows, &settings).unwrap();
        let made = fidelity(&rows, &summary, &TokenPrice::default(), &settings).unwrap();
        let of = &made[0];
        assert!((of.as_full.unwrap().share - 0.75).abs() < 1e-12);
        assert!((of.as_recorded.unwrap().share - 0.5).abs() < 1e-12);
        assert!((of.retained.unwrap().0 - 0.75).abs() < 1e-12);
        assert!((of.first_token_ms - 12.0).abs() < 1e-12);
        // 1,000 * 1.25 + 2,000 * 0.125 + 10 * 10 of a million, a thousand times.
        assert!((of.price - 1.6).abs() < 1e-9, "{}", of.price);
        assert!(table(&made).contains("75.0 %"));
    }

    #[test]
    fn prices_are_three_numbers() {
        assert_eq!("1.25, 0.125,10".parse::<TokenPrice>().unwrap(), TokenPrice::default());
        for wrong in ["", "1,2", "1,2,3,4", "1,-2,3", "a,b,c", "1,2,inf"] {
            assert!(wrong.parse::<TokenPrice>().is_err(), "{wrong}");
        }
    }
}
