//! STUB until the loaders are merged.
use std::path::Path;

use lb_orchestrate::Segment;
use serde_json::Value;

use super::LogItem;
use crate::Result;

/// Stub.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {}
/// Stub.
#[derive(Clone, Debug, Default)]
pub struct LoadedLogs {
    /// Items.
    pub items: Vec<LogItem>,
}

/// Stub.
///
/// # Errors
/// None.
pub fn load(path: &Path, _options: &LoadOptions) -> Result<LoadedLogs> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| crate::Error::Io { path: path.to_owned(), source })?;
    let items = text.lines().filter_map(|line| {
        let v: Value = serde_json::from_str(line).ok()?;
        let trajectory = v["trajectory"].as_array()?.iter();
        let trajectory = trajectory.map(|m| {
            let (role, text) = (m["role"].as_str().unwrap_or(""), m["content"].as_str().unwrap_or(""));
            if role.contains("thought") || role.contains("->") {
                Segment::reasoning(text)
            } else {
                Segment::tool(text)
            }
        });
        let id = v["id"].as_str()?.to_owned();
        Some(LogItem {
            document: id.split('#').next().unwrap_or("").to_owned(),
            id,
            trajectory: trajectory.filter(|s| !s.text.trim().is_empty()).collect(),
            task: v["task"].as_str()?.to_owned(),
            target: v["target"].as_str()?.to_owned(),
            answers: Vec::new(),
        })
    });
    Ok(LoadedLogs { items: items.collect() })
}
