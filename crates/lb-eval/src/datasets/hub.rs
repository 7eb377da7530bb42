//! LongBench v2 by name from the Hugging Face hub.

use std::path::PathBuf;

use lb_model::hub::Hub;

use super::long_bench_v2::{FILE, REPOSITORY};
use crate::Result;

/// [`REPOSITORY`] with the settings of the environment; see [`Hub`] for what else can be set.
///
/// # Errors
/// None in practice: the name is a valid one.
pub fn long_bench_v2() -> Result<Hub> {
    Ok(Hub::dataset(REPOSITORY)?)
}

/// The path of LongBench v2's file in the cache, fetched (465 MB, resumed, checked) where the cache lacks it.
///
/// # Errors
/// [`crate::Error::Model`] with the hub's failure.
pub fn fetch(hub: &Hub) -> Result<PathBuf> {
    Ok(hub.file(FILE)?)
}
