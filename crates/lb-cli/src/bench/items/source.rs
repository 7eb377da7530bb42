//! What is asked.

use std::path::PathBuf;

use clap::ValueEnum;
use lb_eval::datasets::{
    FileKind, LoadOptions, Loaded, OnFault, Subset, choose, hub, load, ruler, synthetic,
};
use lb_model::Worker;

use crate::{Result, complain};

#[derive(clap::Args)]
pub(crate) struct Items {
    /// LongBench v2 as JSON, JSON Lines or Parquet, or another set that is known; without it, a synthetic set.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// LongBench v2 from the Hugging Face hub (465 MB).
    #[arg(long, conflicts_with = "data")]
    hub: bool,
    /// Generated tasks in the manner of RULER: needle, multi-key, multi-value, multi-query, tracking, common-words,
    /// frequent-words.
    #[arg(long, value_name = "TASKS", value_delimiter = ',', conflicts_with_all = ["data", "hub"])]
    ruler: Vec<ruler::RulerTask>,
    /// Tokens of these tasks.
    #[arg(long, value_delimiter = ',', default_values_t = [1024, 4096, 16_384, 32_768])]
    lengths: Vec<usize>,
    /// Items of each task and length.
    #[arg(long, default_value_t = 10)]
    samples: usize,
    /// Which items: length=short|medium,difficulty=hard,tokens=0-100k,n=126,seed=1
    #[arg(long)]
    subset: Option<Subset>,
    /// What becomes of malformed items.
    #[arg(long, value_enum, default_value_t = Fault::Skip)]
    on_fault: Fault,
    /// Largest item in MiB; beyond it an item is malformed. The sandbox takes no text above 32.
    #[arg(long, default_value_t = 32, value_name = "MIB")]
    max_item: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Fault {
    Skip,
    Fail,
}

impl Items {
    /// Reads or makes them; `seed` is that of generated ones. Malformed items are named on stderr.
    pub(crate) fn load(&self, worker: &Worker, seed: u64) -> Result<Loaded> {
        let count = |text: &str| Ok(worker.tokenizer().encode_text(text)?.len());
        let subset = self.subset.clone().unwrap_or_default();
        let path = match (&self.data, self.hub) {
            (Some(path), _) => path.clone(),
            (None, true) => hub::fetch(&hub::long_bench_v2()?)?,
            (None, false) => {
                let made = match self.ruler.as_slice() {
                    [] => synthetic::bundled()?,
                    tasks => ruler::suite(tasks, &self.lengths, self.samples, seed, &count)?,
                };
                let (items, missing) = choose(made, &subset, Some(&count))?;
                return some(Loaded { items, missing, ..Loaded::default() });
            }
        };
        let kind = if self.hub { FileKind::LongBenchV2 } else { FileKind::detect(&path)? };
        let options = LoadOptions {
            on_fault: if self.on_fault == Fault::Fail { OnFault::Fail } else { OnFault::Skip },
            subset,
            count_tokens: Some(&count),
            max_item_bytes: self.max_item.saturating_mul(1 << 20),
        };
        let loaded = load(&path, kind, &options)?;
        for fault in &loaded.faults {
            complain!("items: {}, {fault}; skipped", path.display());
        }
        some(loaded)
    }
}

fn some(loaded: Loaded) -> Result<Loaded> {
    if !loaded.missing.is_empty() {
        return Err(format!("--subset: no item has the id {}", loaded.missing.join(", ")).into());
    }
    if loaded.items.is_empty() {
        return Err("no item is left".into());
    }
    Ok(loaded)
}
