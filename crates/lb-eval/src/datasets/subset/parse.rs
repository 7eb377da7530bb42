//! Subsets from and to a short text.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::Subset;
use crate::datasets::item::LengthClass;
use crate::datasets::read_ids;
use crate::episodes::Difficulty;
use crate::{Error, Result};

const KEYS: &str =
    "want KEY=VALUE with the keys length, difficulty, domain, sub_domain, tokens, ids, n, seed, each once";

impl FromStr for Subset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut subset = Self::default();
        let text = text.trim();
        if text.is_empty() || text == "all" {
            return Ok(subset);
        }
        let mut seen: Vec<&str> = Vec::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| Error::config("subset", part, KEYS))?;
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(Error::config("subset", part, KEYS));
            }
            seen.push(key);
            let values = || value.split('|').map(str::trim);
            match key {
                "length" => subset.lengths = values().map(str::parse).collect::<Result<_>>()?,
                "difficulty" => subset.difficulties = values().map(difficulty).collect::<Result<_>>()?,
                "domain" => subset.domains = values().map(str::to_owned).collect(),
                "sub_domain" => subset.sub_domains = values().map(str::to_owned).collect(),
                "tokens" => subset.tokens = Some(range(value)?),
                "ids" => {
                    subset.ids = Some(match value.strip_prefix('@') {
                        Some(file) => read_ids(Path::new(file))?,
                        None => values().filter(|id| !id.is_empty()).map(str::to_owned).collect(),
                    });
                }
                "n" => subset.limit = Some(number("n", value)?),
                "seed" => subset.seed = number("seed", value)?,
                _ => return Err(Error::config("subset", part, KEYS)),
            }
        }
        subset.validate()?;
        Ok(subset)
    }
}

fn difficulty(text: &str) -> Result<Difficulty> {
    match text {
        "easy" => Ok(Difficulty::Easy),
        "hard" => Ok(Difficulty::Hard),
        other => Err(Error::config("difficulty", other, "want easy or hard")),
    }
}

fn number<T: FromStr>(field: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::config(field, text, "want a whole number"))
}

/// `0-100000` or `0-100k`.
fn range(text: &str) -> Result<[usize; 2]> {
    let bound = |text: &str| {
        let text = text.trim();
        match text.strip_suffix(['k', 'K']) {
            Some(thousands) => number::<usize>("tokens", thousands)?
                .checked_mul(1000)
                .ok_or_else(|| Error::config("tokens", text, "want fewer")),
            None => number("tokens", text),
        }
    };
    let (low, high) =
        text.split_once('-').ok_or_else(|| Error::config("tokens", text, "want LOW-HIGH, both included"))?;
    Ok([bound(low)?, bound(high)?])
}

/// The text that parses to this subset again.
impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut list = |key: &str, values: Vec<&str>| {
            if !values.is_empty() {
                parts.push(format!("{key}={}", values.join("|")));
            }
        };
        list("length", self.lengths.iter().map(|l| LengthClass::name(*l)).collect());
        let named = |d: &Difficulty| d.name();
        list("difficulty", self.difficulties.iter().map(named).collect());
        list("domain", self.domains.iter().map(String::as_str).collect());
        list("sub_domain", self.sub_domains.iter().map(String::as_str).collect());
        list("ids", self.ids.iter().flatten().map(String::as_str).collect());
        if let Some([low, high]) = self.tokens {
            parts.push(format!("tokens={low}-{high}"));
        }
        if let Some(limit) = self.limit {
            parts.push(format!("n={limit},seed={}", self.seed));
        }
        f.write_str(if parts.is_empty() { "all".to_owned() } else { parts.join(",") }.as_str())
    }
}
