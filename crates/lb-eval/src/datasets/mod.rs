//! Long-document question sets from their own public files, and generated ones.
//!
//! | set | file |
//! |---|---|
//! | LongBench v2 | `data.json`, the same as JSON Lines, or Parquet; by name through [`hub`] |
//! | LongBench v1 | JSON Lines |
//! | QuALITY | JSON Lines of v1.0.1, with HTML or without |
//! | LongHealth | `benchmark_v5.json` |
//! | RULER-style tasks | [`ruler`], generated |
//! | a small synthetic set in LongBench v2's schema | [`synthetic`], bundled |
//!
//! What a file is shows its content, never its name alone. Items are read one by one; a malformed one is reported by id
//! and line, and skipped or fatal as [`OnFault`] says.
//!
//! ```no_run
//! use lb_eval::datasets::{FileKind, LoadOptions, load};
//!
//! let options = LoadOptions { subset: "length=short|medium,n=126,seed=1".parse()?, ..LoadOptions::default() };
//! let loaded = load("data.json".as_ref(), FileKind::LongBenchV2, &options)?;
//! for fault in &loaded.faults {
//!     eprintln!("{fault}");
//! }
//! # Ok::<(), lb_eval::Error>(())
//! ```

pub(crate) mod fields;
pub(crate) mod format;
mod html;
#[cfg(feature = "hub")]
pub mod hub;
mod item;
pub(crate) mod json;
mod long_bench;
pub mod long_bench_v2;
mod long_health;
#[cfg(feature = "parquet")]
mod parquet;
mod quality;
pub(crate) mod reader;
pub mod ruler;
mod subset;
pub mod synthetic;

use std::collections::BTreeSet;
use std::path::Path;

use lb_io::files::{SETTINGS, read_text_at_most};

pub use crate::fault::{Fault, FileFault, ItemFault, OnFault};
pub use item::{Dataset, Item, ItemKind, LengthClass, Meta, letter};
pub use long_bench::V1Set;
pub use reader::{Entry, Reader};
pub use subset::Subset;

use crate::{Error, Result};

/// The largest item that is read unless asked otherwise: several times the longest context of LongBench v2.
pub const MAX_ITEM_BYTES: usize = 256 << 20;

/// Counts the tokens of a text, as the worker under test would.
pub type TokenCount<'a> = &'a dyn Fn(&str) -> Result<usize>;

/// Whose format a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// LongBench v2.
    LongBenchV2,
    /// LongBench v1.
    LongBench,
    /// QuALITY.
    Quality,
    /// LongHealth.
    LongHealth,
}

impl FileKind {
    /// The kind of a file, by the fields of its first readable record.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Dataset`].
    pub fn detect(path: &Path) -> Result<Self> {
        reader::detect_kind(path, MAX_ITEM_BYTES)
    }
}

/// How to read a file and what of it to keep.
#[derive(Clone)]
pub struct LoadOptions<'a> {
    /// What becomes of malformed items; skipped if not said.
    pub on_fault: OnFault,
    /// Items above this size are faults; [`MAX_ITEM_BYTES`] if not said.
    pub max_item_bytes: usize,
    /// Which items; all if not said.
    pub subset: Subset,
    /// Counts the tokens of a context. Needed for [`Subset::tokens`] alone.
    pub count_tokens: Option<TokenCount<'a>>,
}

impl Default for LoadOptions<'_> {
    fn default() -> Self {
        Self {
            on_fault: OnFault::default(),
            max_item_bytes: MAX_ITEM_BYTES,
            subset: Subset::default(),
            count_tokens: None,
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The chosen items, in the order of the file.
    pub items: Vec<Item>,
    /// Every malformed item of the file, in its order, whether or not the subset would have chosen it.
    pub faults: Vec<ItemFault>,
    /// Ids that the subset asks for and the file does not have.
    pub missing: Vec<String>,
    /// Well-formed items in the file.
    pub available: usize,
}

/// Reads a file. Only the chosen items stay in memory.
///
/// # Errors
/// [`Error::Io`]; [`Error::Dataset`] for a file that cannot be read on; [`Error::Item`] for the first malformed item with
/// [`OnFault::Fail`]; [`Error::Config`] for a subset out of range; what the token counter returns.
pub fn load(path: &Path, kind: FileKind, options: &LoadOptions<'_>) -> Result<Loaded> {
    let mut chooser = subset::Chooser::new(&options.subset, options.count_tokens)?;
    let (mut faults, mut available) = (Vec::new(), 0);
    for entry in Reader::open(path, kind, options.max_item_bytes)? {
        match entry? {
            Entry::Item(item) => {
                available += 1;
                chooser.offer(item)?;
            }
            Entry::Fault(fault) if options.on_fault == OnFault::Fail => {
                return Err(Error::Item { path: path.to_path_buf(), source: Box::new(fault) });
            }
            Entry::Fault(fault) => faults.push(fault),
        }
    }
    let (items, missing) = chooser.finish();
    Ok(Loaded { items, faults, missing, available })
}

/// The items of a list that a subset chooses, and the ids that it asks for in vain.
///
/// # Errors
/// As [`load`].
pub fn choose(
    items: impl IntoIterator<Item = Item>,
    subset: &Subset,
    count_tokens: Option<TokenCount<'_>>,
) -> Result<(Vec<Item>, Vec<String>)> {
    let mut chooser = subset::Chooser::new(subset, count_tokens)?;
    for item in items {
        chooser.offer(item)?;
    }
    Ok(chooser.finish())
}

/// Ids, one a line; blank lines and lines that begin with `#` are passed over.
///
/// # Errors
/// [`Error::Io`].
pub fn read_ids(path: &Path) -> Result<BTreeSet<String>> {
    let text =
        read_text_at_most(path, SETTINGS).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
