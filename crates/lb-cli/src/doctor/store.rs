//! The cache of the hub, and the hub.

use std::time::Duration;

use lb_model::hub::Reach;
use serde_json::json;

use super::Finding;
use super::machine::writable;

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn cache() -> Finding {
    let folder = match Reach::from_env() {
        Ok(reach) => reach.cache_dir,
        Err(error) => return Finding::failed("cache", error.to_string()),
    };
    // What is missing is made in the nearest folder that is there.
    let there = folder.ancestors().find(|folder| folder.is_dir());
    let Some(there) = there else {
        return Finding::failed("cache", format!("{}: no such folder", folder.display()));
    };
    if let Err(error) = writable(there) {
        return Finding::failed("cache", format!("{}: {error}", there.display()));
    }
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let models = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("models--")).count();
    let how = if there == folder { "writable" } else { "will be made" };
    Finding::ok(
        "cache",
        format!("{}: {how}, {models} models", folder.display()),
        json!({ "dir": folder, "models": models }),
    )
}

pub(super) fn hub() -> Finding {
    let reach = match Reach::from_env() {
        Ok(reach) => reach,
        Err(error) => return Finding::failed("hub", error.to_string()),
    };
    if reach.offline {
        return Finding::absent(
            "hub",
            "offline, as HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE says; the cache is read",
        );
    }
    match reach.ask(PATIENCE) {
        Ok(took) => {
            let ms = took.as_secs_f64() * 1e3;
            let said = format!("{} answers in {ms:.0} ms", reach.endpoint);
            Finding::ok("hub", said, json!({ "endpoint": reach.endpoint, "ms": ms }))
        }
        // Work goes on without it: what is in the cache is read.
        Err(error) => {
            Finding::absent("hub", format!("{} does not answer: {}", reach.endpoint, Reach::why(&error)))
        }
    }
}
