//! What was measured, as numbers and as text.

use std::fmt;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table};
use lb_am::{Selection, Timing};
use serde::{Deserialize, Serialize};

use super::peak::Peak;
use super::prefill::{PrefillEffort, PrefillTime, line};
use super::serial::SerialFit;
use super::shape::Shape;

/// Median and range of repeated measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The middle value; the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Stats {
    /// Of any number of values; zeros of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return Self::default() };
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median, min: *min, max: *max }
    }

    /// Every number times `factor`, which is not negative.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }
}

/// Seconds of each step of a compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// Attention of the queries over the full cache.
    pub scores: Stats,
    /// Pooling and selection.
    pub mask: Stats,
    /// Gathering the keys and fitting the biases.
    pub beta: Stats,
    /// Refitting the values.
    pub values: Stats,
    /// What is left of the total: checks, gathering, the report.
    pub other: Stats,
    /// Everything.
    pub total: Stats,
}

impl Steps {
    /// Of several runs of the same compaction.
    pub fn of(timings: &[Timing]) -> Self {
        let stats = |of: fn(&Timing) -> std::time::Duration| {
            Stats::of(timings.iter().map(|timing| of(timing).as_secs_f64()))
        };
        Self {
            scores: stats(|t| t.scores),
            mask: stats(|t| t.mask),
            beta: stats(|t| t.beta),
            values: stats(|t| t.values),
            other: stats(|t| t.total.saturating_sub(t.scores + t.mask + t.beta + t.values)),
            total: stats(|t| t.total),
        }
    }

    /// Every number times `factor`, as for more layers than were measured.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let Self { scores, mask, beta, values, other, total } = self;
        let [scores, mask, beta, values, other, total] =
            [scores, mask, beta, values, other, total].map(|stats| stats.times(factor));
        Self { scores, mask, beta, values, other, total }
    }
}

/// `lb_am::compact` with one selection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batched {
    /// Which positions compete.
    pub selection: Selection,
    /// Positions that stay.
    pub kept_len: usize,
    /// Seconds for the layers that were measured.
    pub seconds: Steps,
    /// 10⁹ operations that the algorithm asks for, see [`head_flops`](super::head_flops).
    pub gflop: f64,
    /// The same a second, over the median total.
    pub gflops: f64,
    /// Bytes of the compacted cache.
    pub output_bytes: u64,
    /// Bytes by which the process grew at its peak in the first run, the output included; only for the first selection,
    /// on Linux.
    pub extra_bytes: Option<u64>,
}

impl Batched {
    /// The selection as a flag names it.
    pub fn name(&self) -> String {
        self.selection.to_string()
    }
}

/// The serial order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What it fits.
    pub fit: SerialFit,
    /// Layers that were run.
    pub layers_measured: usize,
    /// Seconds, scaled to the layers that the batched order ran: each head costs the same.
    pub seconds: Steps,
    /// Its total over that of the first batched selection, run by run.
    pub ratio: Stats,
}

/// Time against length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Layers of each cache.
    pub layers: usize,
    /// Length and seconds of one compaction.
    pub points: Vec<(usize, Stats)>,
    /// p of the line through logarithms, time ~ S^p: 1 is linear.
    pub exponent: f64,
}

impl Scaling {
    /// Fits the exponent to the medians.
    pub fn fit(layers: usize, points: Vec<(usize, Stats)>) -> Self {
        let logs: Vec<(f64, f64)> = points
            .iter()
            .filter(|(_, stats)| stats.median > 0.0)
            .map(|(len, stats)| ((*len as f64).ln(), stats.median.ln()))
            .collect();
        let exponent = if logs.len() < 2 { 0.0 } else { line(&logs).1 };
        Self { layers, points, exponent }
    }
}

/// Everything of one run of `examples/overhead.rs`. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverheadReport {
    /// Sizes of the model.
    pub shape: Shape,
    /// Layers that were compacted; what is said of the whole shape is scaled from them.
    pub layers: usize,
    /// Positions in the cache.
    pub seq_len: usize,
    /// Tokens of the task.
    pub task_tokens: usize,
    /// Queries of a KV head.
    pub n_queries: usize,
    /// Share of the positions that stays.
    pub keep_ratio: f64,
    /// Of the cache.
    pub dtype: String,
    /// Where.
    pub device: String,
    /// Threads of tensor operations on the CPU.
    pub threads: usize,
    /// Repetitions.
    pub runs: usize,
    /// Bytes of keys and values of the layers that were measured.
    pub cache_bytes: u64,
    /// Batched selections, the main one first.
    pub batched: Vec<Batched>,
    /// The serial order, where it was measured.
    pub baselines: Vec<Baseline>,
    /// The prefill, where it was measured.
    pub prefill: Option<PrefillTime>,
    /// The machine's matrix products: f32, and the cache's dtype where it is another.
    pub peaks: Vec<Peak>,
    /// Time against length, where it was measured.
    pub scaling: Option<Scaling>,
}

impl OverheadReport {
    /// What seconds of the measured layers are for all layers of the shape.
    pub fn whole(&self, seconds: f64) -> f64 {
        seconds * self.shape.layers as f64 / self.layers as f64
    }

    /// Compaction of all layers over their prefill, by the main selection.
    pub fn share_of_prefill(&self) -> Option<f64> {
        let total = self.batched.first()?.seconds.total.median;
        Some(self.whole(total) / self.prefill.as_ref()?.seconds)
    }

    /// Operations a second over a peak, of one selection.
    pub fn share_of_peak(&self, batched: &Batched, peak: &Peak) -> f64 {
        batched.gflops / peak.gflops
    }
}

impl fmt::Display for OverheadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, layers, seq_len, task_tokens, n_queries, dtype, device, threads, runs, .. } = self;
        writeln!(
            f,
            "{shape}: {layers} of {} layers, {seq_len} positions, {task_tokens} task tokens ({n_queries} queries a KV head), \
             keep ratio {}, {dtype} on {device}, {threads} threads, median (range) of {runs}",
            shape.layers, self.keep_ratio
        )?;
        writeln!(f, "{}", self.table())?;
        self.memory(f)?;
        for baseline in &self.baselines {
            let Stats { median, min, max } = baseline.ratio;
            let (name, layers) = (name(baseline.fit), baseline.layers_measured);
            writeln!(f, "{name}: {median:.1}x ({min:.1} to {max:.1}) the time, scaled from {layers} layers")?;
        }
        self.prefill(f)?;
        for peak in &self.peaks {
            write!(f, "matrix product of {} in {}: {:.0} GFLOP/s", peak.by, peak.dtype, peak.gflops)?;
            for batched in &self.batched {
                write!(f, "; {} reaches {:.0} %", batched.name(), 100.0 * self.share_of_peak(batched, peak))?;
            }
            writeln!(f)?;
        }
        if let Some(Scaling { layers, points, exponent }) = &self.scaling {
            let points = points.iter().map(|(len, stats)| format!("{len}: {}", ms(stats.median)));
            let points = points.collect::<Vec<_>>().join(", ");
            writeln!(f, "{layers} layers by length, ms: {points}; time ~ S^{exponent:.3}")?;
        }
        Ok(())
    }
}

impl OverheadReport {
    fn table(&self) -> Table {
        let mut table =
            new_table(&["ms", "scores", "mask", "beta", "C2", "other", "total", "all layers", "GFLOP/s"]);
        let mut add = |name: &str, seconds: &Steps, gflops: Option<f64>| {
            let Steps { scores, mask, beta, values, other, total } = *seconds;
            let mut row = vec![name.to_owned()];
            row.extend([scores, mask, beta, values, other].map(|stats| ms(stats.median)));
            row.push(format!("{} ({} to {})", ms(total.median), ms(total.min), ms(total.max)));
            row.push(ms(self.whole(total.median)));
            row.push(gflops.map_or_else(String::new, |gflops| format!("{gflops:.0}")));
            table.add_row(row);
        };
        for batched in &self.batched {
            add(&batched.name(), &batched.seconds, Some(batched.gflops));
        }
        for baseline in &self.baselines {
            add(name(baseline.fit), &baseline.seconds, None);
        }
        table
    }

    fn prefill(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(prefill), Some(share)) = (&self.prefill, self.share_of_prefill()) else { return Ok(()) };
        let how = match prefill.effort {
            PrefillEffort::Full => "measured, all layers",
            _ if prefill.samples.is_empty() => "estimated from one layer, measured whole",
            _ => "estimated from chunks of one layer at several depths",
        };
        let (seconds, gflops, share) = (prefill.seconds, prefill.gflops, 100.0 * share);
        writeln!(
            f,
            "prefill of {} tokens: {seconds:.1} s ({how}; {gflops:.0} GFLOP/s with attention); \
             compaction of all {} layers is {share:.2} % of it",
            prefill.seq_len, prefill.layers
        )
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(main) = self.batched.first() else { return Ok(()) };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (cache, output) = (mib(self.cache_bytes), mib(main.output_bytes));
        write!(f, "{}: cache {cache:.0} MiB, output {output:.0} MiB", main.name())?;
        match main.extra_bytes {
            Some(extra) => {
                let extra = mib(extra);
                let beyond = (extra - output).max(0.0);
                let share = 100.0 * beyond / cache;
                writeln!(
                    f,
                    ", peak extra memory {extra:.0} MiB, {beyond:.0} MiB of it ({share:.1} % of the cache) beyond the output"
                )
            }
            None => writeln!(f, ", peak extra memory unknown on this system"),
        }
    }
}

fn name(fit: SerialFit) -> &'static str {
    match fit {
        SerialFit::Ridge => "serial",
        SerialFit::LeastSquares => "serial, least squares",
    }
}

fn ms(seconds: f64) -> String {
    format!("{:.1}", seconds * 1e3)
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none())).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
