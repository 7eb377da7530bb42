//! The files of a folder that are logs by their names.

use std::path::{Path, PathBuf};

use super::items::Items;
use crate::datasets::{Fault, FileFault, OnFault};
use crate::{Error, Result};

/// Endings of files that are read.
const ENDINGS: [&str; 4] = ["json", "jsonl", "ndjson", "traj"];

/// Folders below folders that are looked into.
const DEPTH: usize = 8;

/// Reads every log of a folder, in the order of the paths.
pub(super) fn read(root: &Path, items: &mut Items<'_>) -> Result<()> {
    let (mut paths, mut others) = (Vec::new(), 0);
    list(root, DEPTH, &mut paths, &mut others)?;
    if paths.is_empty() {
        let source = FileFault::NoFiles { wanted: ".json, .jsonl, .ndjson or .traj" };
        return Err(Error::Dataset { path: root.to_path_buf(), source });
    }
    items.other_files(others);
    for path in paths {
        if items.full() {
            break;
        }
        let inside = path.strip_prefix(root).unwrap_or(&path);
        let name = inside.with_extension("").to_string_lossy().replace('\\', "/");
        items.enter_file(inside);
        match super::file::read(&path, &name, items) {
            Err(e @ (Error::Io { .. } | Error::Dataset { .. }))
                if items.options.on_fault == OnFault::Skip =>
            {
                let reason = match e {
                    Error::Dataset { source, .. } => source.to_string(),
                    Error::Io { source, .. } => source.to_string(),
                    other => other.to_string(),
                };
                items.fault(&path, None, 1, Fault::File { reason })?;
            }
            read => read?,
        }
    }
    Ok(())
}

/// Files to read, and how many others there are. Links to folders are not followed, hidden files not seen.
fn list(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>, others: &mut usize) -> Result<()> {
    let failed = |source| Error::Io { path: folder.to_path_buf(), source };
    let mut entries =
        std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            if depth > 0 {
                list(&path, depth - 1, paths, others)?;
            }
            continue;
        }
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        if ENDINGS.contains(&ending.as_str()) && path.is_file() {
            paths.push(path);
        } else {
            *others += 1;
        }
    }
    Ok(())
}
