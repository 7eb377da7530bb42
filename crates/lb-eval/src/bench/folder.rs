//! What else lies in the folder of a benchmark.

use std::path::Path;

use crate::datasets::ItemFault;
use crate::report::write_file;
use crate::{Error, Result};

/// Malformed items, one a line.
pub const FAULTS: &str = "faults.jsonl";
/// The runs' logs.
pub const LOGS: &str = "logs";

/// Lists malformed items in the folder.
pub(super) fn write_faults(dir: &Path, faults: &[ItemFault]) -> Result<()> {
    let path = dir.join(FAULTS);
    let mut text = Vec::new();
    for fault in faults {
        let json = |source| Error::Json { path: path.clone(), line_number: 1, source };
        serde_json::to_writer(&mut text, fault).map_err(json)?;
        text.push(b'\n');
    }
    write_file(&path, &text)
}
