//! Which items of a file: by class, by length in tokens, by id, by lot.

mod choose;
mod parse;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub(super) use choose::Chooser;

use super::item::LengthClass;
use crate::episodes::Difficulty;
use crate::{Error, Result};

/// A choice of items. Every filter that is set must hold; an empty one lets everything pass.
///
/// As text: `length=medium,difficulty=hard,tokens=0-100000,n=126,seed=1`. Several values of a key are joined by `|`, `k`
/// behind a number of tokens is 1,000, ids may come from a file as `ids=@FILE`. Keys: `length`, `difficulty`, `domain`,
/// `sub_domain`, `tokens`, `ids`, `n`, `seed`. `all` or an empty text chooses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subset {
    /// Classes of length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lengths: Vec<LengthClass>,
    /// Easy, hard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub difficulties: Vec<Difficulty>,
    /// Domains, in any case of letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// Sub-domains, in any case of letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sub_domains: Vec<String>,
    /// Fewest and most tokens of the context, both included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<[usize; 2]>,
    /// Ids. `None` does not ask for ids; an empty list is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<BTreeSet<String>>,
    /// At most so many of what the filters let pass, drawn by lot without replacement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Decides the lot. The draw looks at ids alone: the same seed draws the same items whatever their order in the file.
    pub seed: u64,
}

impl Subset {
    /// # Errors
    /// [`Error::Config`] names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if let Some([low, high]) = self.tokens
            && low > high
        {
            return Err(Error::config("tokens", format!("{low}-{high}"), "want the smaller number first"));
        }
        if self.ids.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(Error::config("ids", "none", "want at least one id"));
        }
        if self.limit == Some(0) {
            return Err(Error::config("n", 0, "want at least 1"));
        }
        if self.domains.iter().chain(&self.sub_domains).any(|name| name.trim().is_empty()) {
            return Err(Error::config("domain", "", "want a name"));
        }
        Ok(())
    }
}
