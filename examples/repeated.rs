//! A trajectory that is compacted again and again while it grows, and several briefings joined: what is left of it.
//!
//! `cargo run --release --features full --example repeated -- --data FILE.jsonl --worker MODEL`
//!
//! *Again and again*: the trajectory is read in `--steps` parts. Before each further part, what stands there is cut to `--held` of the
//! positions so far by the queries with which the part behind it was read, β and values fitted; what was cut is gone. At the end the task
//! cuts what is left to `--keep` of the whole. With one step this is an ordinary briefing by the task's own queries.

use std::path::PathBuf;

use candle_core::Tensor;
use clap::Parser;
use latent_briefing::am::{Compaction, Compactor, LayerKv};
use latent_briefing::candle as candle_core;
use latent_briefing::eval::logs::{self, LogItem};
use latent_briefing::model::{Captured, KvCache, PrefillOptions, Worker};
use latent_briefing::prelude::OpenSession;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Arguments {
    /// Recorded logs.
    #[arg(long)]
    data: PathBuf,
    /// A checkpoint's folder or file.
    #[arg(long)]
    worker: String,
    /// In how many parts the trajectory is read; several numbers with commas.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    steps: Vec<usize>,
    /// The share of all positions so far that stays at each step.
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.25")]
    held: Vec<f64>,
    /// The share of the whole that the task's briefing has.
    #[arg(long, default_value_t = 0.1)]
    keep: f64,
    /// Items.
    #[arg(long)]
    limit: Option<usize>,
    /// Tokens of the target.
    #[arg(long, default_value_t = 96)]
    target_tokens: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let worker = Worker::load(&arguments.worker)?;
    let options = logs::LoadOptions { limit: arguments.limit, ..logs::LoadOptions::default() };
    let loaded = logs::load(&arguments.data, &options)?;
    let mut plans: Vec<(usize, f64)> = vec![(1, 1.0)];
    for &steps in arguments.steps.iter().filter(|steps| **steps > 1) {
        plans.extend(arguments.held.iter().map(|held| (steps, *held)));
    }
    let mut sums = vec![0.0; plans.len()];
    let (mut full, mut none) = (0.0, 0.0);
    for (number, item) in loaded.items.iter().enumerate() {
        let reading = Reading::of(&worker, item, arguments.target_tokens)?;
        none += reading.nll(worker.model().new_cache())?;
        full += reading.nll(reading.read(1, 1.0)?)?;
        for (sum, (steps, held)) in sums.iter_mut().zip(&plans) {
            let grown = reading.read(*steps, *held)?;
            *sum += reading.nll(reading.cut_for_task(&grown, arguments.keep)?)?;
        }
        let retained = |sum: &f64| format!("{:.3}", 1.0 - (sum - full) / (none - full));
        println!("{} items, {} positions in the last", number + 1, reading.tokens.len());
        for ((steps, held), sum) in plans.iter().zip(&sums) {
            println!("    {steps:2} steps, {held:.2} held at each: {}", retained(sum));
        }
    }
    Ok(())
}

/// One item as tokens.
struct Reading<'a> {
    worker: &'a Worker,
    tokens: Vec<u32>,
    task: Vec<u32>,
    target: Vec<u32>,
}

impl<'a> Reading<'a> {
    fn of(worker: &'a Worker, item: &LogItem, most: usize) -> Result<Self> {
        let mut session = worker.session()?;
        session.extend_all(item.trajectory.clone(), &mut |_, _| {})?;
        let mut target = worker.tokenizer().encode_text(&item.target)?;
        target.truncate(most);
        let task = session.task_tokens(item.task.as_str())?;
        Ok(Self { worker, tokens: session.tokens().to_vec(), task, target })
    }

    /// The cache of the trajectory, read in so many parts, cut to `held` before each further one.
    fn read(&self, steps: usize, held: f64) -> Result<KvCache> {
        let mut cache = self.worker.model().new_cache();
        for part in self.tokens.chunks(self.tokens.len().div_ceil(steps)) {
            let before = cache.slots();
            let (captured, positions) = (self.capture(part, &mut cache)?, cache.logical_len());
            if before > 0 && held < 1.0 {
                // Of what is there in front of this part, so many positions stay.
                let kept = ((positions - part.len()) as f64 * held).ceil() as usize;
                let behind = behind(&cache, part.len())?;
                let older = older(&cache, part.len())?;
                let queries = self.drawn(&captured.queries)?;
                cache = self.compacted(&older, &queries, kept, positions - part.len())?;
                cache.append_layers(&behind, part.len())?;
            }
        }
        Ok(cache)
    }

    fn cut_for_task(&self, cache: &KvCache, keep: f64) -> Result<KvCache> {
        let positions = cache.logical_len();
        let kept = (positions as f64 * keep).ceil() as usize;
        let queries = self.capture(&self.task, &mut cache.fork())?.queries;
        self.compacted(&cache.layers()?, &queries, kept, positions)
    }

    fn compacted(
        &self,
        layers: &[LayerKv],
        queries: &[Tensor],
        kept: usize,
        positions: usize,
    ) -> Result<KvCache> {
        let config = self.worker.config();
        let compaction = Compaction::kept_len(kept.min(layers[0].seq_len()));
        let compacted = Compactor::new(layers, queries, &compaction).group_size(config.group_size()).run()?;
        Ok(KvCache::from_compacted(&compacted, positions, config)?)
    }

    fn capture(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Captured> {
        let (model, options) = (self.worker.model(), PrefillOptions::default());
        Ok(model.prefill_capturing(tokens, cache, &options, &mut |_, _| {})?)
    }

    /// Those of 128 tokens at even distances.
    fn drawn(&self, queries: &[Tensor]) -> Result<Vec<Tensor>> {
        let tokens = queries[0].dim(1)? / self.worker.config().group_size();
        let drawn: Vec<u32> = (0..tokens.min(128)).map(|n| (n * tokens / tokens.min(128)) as u32).collect();
        Ok(self.worker.model().pick_queries(queries, &drawn)?)
    }

    /// Mean negative log-likelihood of the target behind the task, read anew behind `cache`.
    fn nll(&self, mut cache: KvCache) -> Result<f64> {
        let read: Vec<u32> = self.task.iter().chain(&self.target[..self.target.len() - 1]).copied().collect();
        let logits = self.worker.model().forward_all(&read, &mut cache)?;
        let rows = logits.narrow(0, self.task.len() - 1, self.target.len())?.to_vec2::<f32>()?;
        let nll = rows.iter().zip(&self.target).map(|(row, token)| {
            let max = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from((x - max).exp())).sum();
            sum.ln() + f64::from(max - row[*token as usize])
        });
        Ok(nll.sum::<f64>() / self.target.len() as f64)
    }
}

/// The last `count` slots of every layer.
fn behind(cache: &KvCache, count: usize) -> Result<Vec<LayerKv>> {
    let of = |layer| {
        let slots = cache.slot_count(layer);
        cache.layer_range(layer, slots - count, slots)
    };
    Ok((0..cache.num_layers()).map(of).collect::<std::result::Result<_, _>>()?)
}

/// All slots but the last `count` of every layer.
fn older(cache: &KvCache, count: usize) -> Result<Vec<LayerKv>> {
    let of = |layer| cache.layer_range(layer, 0, cache.slot_count(layer) - count);
    Ok((0..cache.num_layers()).map(of).collect::<std::result::Result<_, _>>()?)
}
