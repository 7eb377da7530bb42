//! A file as a stream of items and faults.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::fields::{Fields, type_name};
use super::format::{Format, detect, open};
use super::item::Item;
use super::json::{Layout, Raw, Splitter, Stop};
use super::{FileKind, long_bench, long_bench_v2, long_health, quality};
use crate::fault::{Fault, FileFault, ItemFault};
use crate::{Error, Result};

/// What a file holds at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A question.
    Item(Item),
    /// Something that is none.
    Fault(ItemFault),
}

/// A record of the file: several questions in formats that keep a document with its questions.
pub(super) struct Record<'a> {
    pub(super) line: usize,
    pub(super) key: Option<&'a str>,
    pub(super) fields: Fields<'a>,
}

impl Record<'_> {
    /// The entry of a record that is one question, which `item` reads.
    fn entry(&self, item: fn(&Record<'_>) -> std::result::Result<Item, Fault>) -> Entry {
        let id = || self.fields.get("_id").and_then(|id| id.as_str()).map(str::to_owned);
        match item(self) {
            Ok(item) => Entry::Item(item),
            Err(fault) => Entry::Fault(ItemFault { id: id(), line: self.line, fault }),
        }
    }
}

/// The items of a file one by one. Holds one record in memory, and the ids it has seen.
pub struct Reader {
    path: PathBuf,
    kind: FileKind,
    source: Records,
    pending: VecDeque<Entry>,
    seen: HashMap<String, usize>,
    done: bool,
}

pub(crate) enum Records {
    Json(Splitter<BufReader<File>>),
    #[cfg(feature = "parquet")]
    Parquet(Box<super::parquet::Rows>),
}

/// A value of a file with its line and key, or its fault with the id that could be read.
pub(crate) type Found<T> = (usize, Option<String>, std::result::Result<T, (Option<String>, Fault)>);

pub(crate) type Parsed = Found<Map<String, Value>>;

impl Records {
    pub(crate) fn open(path: &Path, keyed: bool, max_item_bytes: usize) -> Result<Self> {
        match detect(path, keyed)? {
            Format::Json(layout) => {
                // The file of LongHealth is known by the patients' keys alone.
                if keyed && layout != Layout::Object {
                    let expected = "an object of patients";
                    let source = FileFault::Structure { line: 1, expected };
                    return Err(Error::Dataset { path: path.to_path_buf(), source });
                }
                Ok(Self::Json(Splitter::new(open(path)?, layout, max_item_bytes)))
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => Ok(Self::Parquet(Box::new(super::parquet::Rows::open(path, max_item_bytes)?))),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => Err(Error::Dataset { path: path.to_path_buf(), source: FileFault::NoParquet }),
        }
    }

    pub(crate) fn next(&mut self, path: &Path) -> Result<Option<Parsed>> {
        match self {
            Self::Json(splitter) => match splitter.next() {
                None => Ok(None),
                Some(Ok(raw)) => Ok(Some(parse(raw))),
                Some(Err(Stop::Io(source))) => Err(Error::Io { path: path.to_path_buf(), source }),
                Some(Err(Stop::File(source))) => Err(Error::Dataset { path: path.to_path_buf(), source }),
            },
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => Ok(rows.next(path)?.map(|(line, row)| {
                let row = row.map_err(|(map, fault)| {
                    (map.get("_id").and_then(Value::as_str).map(str::to_owned), fault)
                });
                (line, None, row)
            })),
        }
    }
}

impl Reader {
    /// Opens a file. Items larger than `max_item_bytes` are faults and are not kept in memory.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Dataset`].
    pub fn open(path: &Path, kind: FileKind, max_item_bytes: usize) -> Result<Self> {
        let source = Records::open(path, kind == FileKind::LongHealth, max_item_bytes)?;
        let (pending, seen) = (VecDeque::new(), HashMap::new());
        Ok(Self { path: path.to_path_buf(), kind, source, pending, seen, done: false })
    }

    fn record(&mut self, (line, key, record): Parsed) {
        let mut found = Vec::new();
        match &record {
            Ok(map) => {
                let record = Record { line, key: key.as_deref(), fields: Fields::root(map) };
                match self.kind {
                    FileKind::LongBenchV2 => found.push(record.entry(long_bench_v2::item)),
                    FileKind::LongBench => found.push(record.entry(long_bench::item)),
                    FileKind::Quality => quality::items(&record, &mut found),
                    FileKind::LongHealth => long_health::items(&record, &mut found),
                }
            }
            Err((id, fault)) => {
                let id = id.clone().or(key);
                found.push(Entry::Fault(ItemFault { id, line, fault: fault.clone() }));
            }
        }
        for entry in found {
            let entry = self.unique(entry);
            self.pending.push_back(entry);
        }
    }

    fn unique(&mut self, entry: Entry) -> Entry {
        let Entry::Item(item) = entry else { return entry };
        if let Some(&first_line) = self.seen.get(&item.id) {
            let (id, fault) = (Some(item.id), Fault::DuplicateId { first_line });
            return Entry::Fault(ItemFault { id, line: item.line, fault });
        }
        self.seen.insert(item.id.clone(), item.line);
        Entry::Item(item)
    }
}

impl Iterator for Reader {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.pending.pop_front() {
                return Some(Ok(entry));
            }
            if self.done {
                return None;
            }
            match self.source.next(&self.path) {
                Ok(Some(parsed)) => self.record(parsed),
                Ok(None) => self.done = true,
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The entries of LongBench v2 in a text of one item a line.
pub(super) fn from_text(text: &str) -> impl Iterator<Item = Entry> {
    let splitter = Splitter::new(text.as_bytes(), Layout::Lines, usize::MAX);
    // Lines of a text in memory have neither a structure to break nor reads to fail.
    splitter.filter_map(std::result::Result::ok).map(|raw| {
        let (line, _, record) = parse(raw);
        match record {
            Ok(map) => Record { line, key: None, fields: Fields::root(&map) }.entry(long_bench_v2::item),
            Err((id, fault)) => Entry::Fault(ItemFault { id, line, fault }),
        }
    })
}

fn parse(raw: Raw) -> Parsed {
    let (line, key, value) = parse_value(raw, &["\"_id\"", "\"set_unique_id\""]);
    let record = value.and_then(|value| match value {
        Value::Object(map) => Ok(map),
        other => Err((None, Fault::NotAnObject { got: type_name(&other).to_owned() })),
    });
    (line, key, record)
}

/// Parses a value; of one that cannot be, the id is what stands behind one of `ids`, keys in quotes.
pub(crate) fn parse_value(raw: Raw, ids: &[&str]) -> Found<Value> {
    let Raw { line, key, bytes, head } = raw;
    let value = bytes.map_err(|fault| (salvage_id(&head, ids), fault)).and_then(|bytes| {
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| (salvage_id(&bytes, ids), Fault::NotUtf8 { at: e.valid_up_to() }))?;
        serde_json::from_str(text)
            .map_err(|e| (salvage_id(&bytes, ids), Fault::Json { reason: e.to_string() }))
    });
    (line, key, value)
}

/// The id of a record that cannot be parsed, where it can be read all the same.
fn salvage_id(bytes: &[u8], ids: &[&str]) -> Option<String> {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(bytes);
    let rest = ids.iter().find_map(|key| Some(text.split_once(key)?.1))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let id = rest.split(['"', '\\']).next()?;
    (!id.is_empty() && id.len() <= LONGEST).then(|| id.to_owned())
}

/// The kind of a file, by the fields of its first readable record.
pub(super) fn detect_kind(path: &Path, max_item_bytes: usize) -> Result<FileKind> {
    let mut source = match Records::open(path, false, max_item_bytes) {
        // One object over many lines is what LongHealth comes as.
        Err(Error::Dataset { source: FileFault::Structure { .. }, .. }) => {
            Records::open(path, true, max_item_bytes)?
        }
        opened => opened?,
    };
    while let Some((_, _, record)) = source.next(path)? {
        let Ok(map) = record else { continue };
        let has = |fields: &[&str]| fields.iter().all(|field| map.contains_key(*field));
        return if has(&["choice_A", "context"]) {
            Ok(FileKind::LongBenchV2)
        } else if has(&["article", "questions"]) {
            Ok(FileKind::Quality)
        } else if has(&["texts", "questions"]) || map.values().any(|v| v.get("texts").is_some()) {
            Ok(FileKind::LongHealth)
        } else if has(&["input", "answers", "context"]) {
            Ok(FileKind::LongBench)
        } else {
            let fields = Fields::root(&map).names();
            Err(Error::Dataset { path: path.to_path_buf(), source: FileFault::NoDataset { fields } })
        };
    }
    Err(Error::Dataset { path: path.to_path_buf(), source: FileFault::NoDataset { fields: Vec::new() } })
}
