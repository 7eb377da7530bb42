//! Filters and the lot, on items as they come.

use std::collections::{BTreeSet, BinaryHeap};

use super::Subset;
use crate::datasets::TokenCount;
use crate::datasets::item::Item;
use crate::{Error, Result};

/// Keeps what a subset chooses of the items that are offered to it, and no more than that.
pub(in crate::datasets) struct Chooser<'a> {
    subset: &'a Subset,
    count_tokens: Option<TokenCount<'a>>,
    drawn: BinaryHeap<Ticket>,
    wanted: BTreeSet<&'a str>,
    offered: usize,
}

/// An item with its lot; the highest lots leave first. Lots depend on seed and id alone.
struct Ticket {
    lot: u64,
    place: usize,
    item: Item,
}

impl Ord for Ticket {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.lot, self.place).cmp(&(other.lot, other.place))
    }
}

impl PartialOrd for Ticket {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ticket {}

impl<'a> Chooser<'a> {
    pub(in crate::datasets) fn new(subset: &'a Subset, count_tokens: Option<TokenCount<'a>>) -> Result<Self> {
        subset.validate()?;
        if subset.tokens.is_some() && count_tokens.is_none() {
            return Err(Error::config("tokens", subset, "want a token counter to count with"));
        }
        let wanted = subset.ids.iter().flatten().map(String::as_str).collect();
        Ok(Self { subset, count_tokens, drawn: BinaryHeap::new(), wanted, offered: 0 })
    }

    pub(in crate::datasets) fn offer(&mut self, item: Item) -> Result<()> {
        self.wanted.remove(item.id.as_str());
        self.offered += 1;
        if !self.passes(&item)? {
            return Ok(());
        }
        self.drawn.push(Ticket { lot: lot(self.subset.seed, &item.id), place: self.offered, item });
        if self.subset.limit.is_some_and(|limit| self.drawn.len() > limit) {
            self.drawn.pop();
        }
        Ok(())
    }

    fn passes(&self, item: &Item) -> Result<bool> {
        let Subset { lengths, difficulties, domains, sub_domains, tokens, ids, .. } = self.subset;
        let among = |names: &[String], name: &Option<String>| {
            names.is_empty()
                || name.as_ref().is_some_and(|n| names.iter().any(|m| m.to_lowercase() == n.to_lowercase()))
        };
        let classes = (lengths.is_empty() || item.length_class.is_some_and(|l| lengths.contains(&l)))
            && (difficulties.is_empty() || item.difficulty.is_some_and(|d| difficulties.contains(&d)))
            && ids.as_ref().is_none_or(|ids| ids.contains(&item.id))
            && among(domains, &item.meta.domain)
            && among(sub_domains, &item.meta.sub_domain);
        match (tokens, self.count_tokens) {
            // Counting is what costs, so it comes last.
            (Some([low, high]), Some(count)) if classes => {
                Ok((*low..=*high).contains(&count(&item.context)?))
            }
            _ => Ok(classes),
        }
    }

    /// The chosen items in the order of their coming, and the ids that never came.
    pub(in crate::datasets) fn finish(self) -> (Vec<Item>, Vec<String>) {
        let mut tickets = self.drawn.into_vec();
        tickets.sort_by_key(|ticket| ticket.place);
        let missing = self.wanted.into_iter().map(str::to_owned).collect();
        (tickets.into_iter().map(|ticket| ticket.item).collect(), missing)
    }
}

/// FNV-1a of the id, mixed with the seed by the finaliser of SplitMix64: stable across platforms and releases.
fn lot(seed: u64, id: &str) -> u64 {
    let hash =
        id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(hash ^ mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}
