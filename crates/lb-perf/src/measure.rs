//! One run of everything, in an order that makes the figures comparable.

use candle_core::{DType, Device};
use lb_am::{Compacted, Compaction, Selection, Timing, compact};

use super::flops::head_flops;
use super::memory::peak_extra;
use super::peak::Peak;
use super::prefill::{PrefillEffort, time_prefill};
use super::report::{Baseline, Batched, OverheadReport, Scaling, Stats, Steps};
use super::scene::{Scene, SceneConfig};
use super::serial::{SerialFit, compact_serially, plain};
use super::shape::Shape;
use crate::{Error, Result};

/// Bytes of cache up to which layers are added where their number is not given.
const ROOM: usize = 2 << 30;
/// Lengths for the exponent.
const LENGTHS: [usize; 5] = [4096, 8192, 16_384, 32_768, 65_536];

/// What [`measure`] does; the flags of `examples/overhead.rs`.
#[derive(Clone, Debug, clap::Args)]
pub struct OverheadConfig {
    /// qwen3-0.6b, 4b, 14b, or LAYERSxKV_HEADSxGROUP_SIZExHEAD_DIM.
    #[arg(long, default_value = "qwen3-0.6b")]
    pub shape: Shape,
    /// Layers of the cache, the figures of the whole shape scaled from them; default: all, as far as 2 GiB go.
    #[arg(long)]
    pub layers: Option<usize>,
    /// Positions in the cache.
    #[arg(long, default_value_t = 16_384)]
    pub seq_len: usize,
    /// Tokens of the task.
    #[arg(long, default_value_t = 64)]
    pub task_tokens: usize,
    /// Share of the positions that stays, in (0, 1].
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    pub keep_ratio: f64,
    /// Of the cache: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    pub dtype: DType,
    /// Rounds, at least 1; medians are shown.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Batched selections that read the task's queries alone: shared, per-layer, per-head and so on; the first one is the
    /// one that all else is compared with.
    #[arg(long = "selection", value_delimiter = ',', default_value = "shared,per-head")]
    pub selections: Vec<Selection>,
    /// Layers that the serial baseline runs in each round, 0 for no baseline.
    #[arg(long, default_value_t = 1)]
    pub serial_layers: usize,
    /// How the prefill is timed.
    #[arg(long, value_enum, default_value_t = PrefillEffort::Sampled)]
    pub prefill: PrefillEffort,
    /// Compaction alone: no baseline, no prefill, no matrix products.
    #[arg(long)]
    pub only_ours: bool,
    /// Also measure 4k to 64k positions, and fit the exponent of time in length.
    #[arg(long)]
    pub scaling: bool,
}

impl OverheadConfig {
    /// The random cache that is compacted.
    pub fn scene(&self) -> SceneConfig {
        let shape = self.shape.clone();
        let mut scene = SceneConfig {
            shape,
            layers: 1,
            seq_len: self.seq_len,
            task_tokens: self.task_tokens,
            dtype: self.dtype,
            seed: 1,
        };
        let fitting = || scene.bytes().map_or(1, |layer| ROOM / layer.max(1)).clamp(1, self.shape.layers);
        scene.layers = self.layers.unwrap_or_else(fitting);
        scene
    }

    /// The compaction with one selection.
    pub fn compaction(&self, selection: &Selection) -> Compaction {
        plain(Compaction::keep_ratio(self.keep_ratio)).with_selection(selection.clone())
    }

    fn check(&self) -> Result<()> {
        if self.layers.is_some_and(|layers| layers == 0 || layers > self.shape.layers) {
            let reason = "must be at least 1 and at most those of the shape";
            return Err(Error::config("layers", self.layers.unwrap_or(0), reason));
        }
        if self.runs == 0 || self.selections.is_empty() {
            return Err(Error::config("runs", self.runs, "must be at least 1, with a selection"));
        }
        Ok(self.compaction(&self.selections[0]).validate()?)
    }
}

/// Times compactions, baselines and prefill, and hands out the scene with what each selection made of it.
///
/// The main selection goes first, for its peak memory. Then each round runs every order once, so that all share what the
/// machine does meanwhile; ratios are taken round by round.
///
/// # Errors
/// [`Error::Config`] for what is out of range, [`Error::Compaction`], [`Error::Tensor`], and those of the prefill.
pub fn measure(
    config: &OverheadConfig,
    device: &Device,
    progress: &mut dyn FnMut(&str),
) -> Result<(OverheadReport, Scene, Vec<Compacted>)> {
    config.check()?;
    let spec = config.scene();
    progress("making the cache");
    let scene = spec.build(device)?;
    let (compacted, extra) = first_runs(config, &scene, progress)?;
    let rounds = Rounds::run(config, &scene, progress)?;
    let mut report = OverheadReport {
        shape: config.shape.clone(),
        layers: spec.layers,
        seq_len: spec.seq_len,
        task_tokens: spec.task_tokens,
        n_queries: spec.n_queries(),
        keep_ratio: config.keep_ratio,
        dtype: spec.dtype.as_str().to_owned(),
        device: device_name(device),
        threads: candle_core::utils::get_num_threads(),
        runs: config.runs,
        cache_bytes: spec.bytes().unwrap_or(0) as u64,
        batched: rounds.batched(config, &spec, &compacted, extra),
        baselines: rounds.baselines(config, spec.layers),
        prefill: None,
        peaks: Vec::new(),
        scaling: None,
    };
    if !config.only_ours {
        progress("prefill");
        report.prefill = time_prefill(&config.shape, config.seq_len, config.dtype, device, config.prefill)?;
        progress("matrix products");
        report.peaks.push(Peak::candle(DType::F32, device)?);
        if config.dtype != DType::F32 {
            report.peaks.push(Peak::candle(config.dtype, device)?);
        }
        if device.is_cpu() && config.dtype != DType::F16 {
            report.peaks.push(Peak::kernel(config.dtype)?);
        }
    }
    if config.scaling {
        report.scaling = Some(scaling(config, device, progress)?);
    }
    Ok((report, scene, compacted))
}

/// One run of each selection, which warms up, and the peak memory of the first.
fn first_runs(
    config: &OverheadConfig,
    scene: &Scene,
    progress: &mut dyn FnMut(&str),
) -> Result<(Vec<Compacted>, Option<u64>)> {
    let mut extra = None;
    let mut all = Vec::new();
    for selection in &config.selections {
        progress("peak memory");
        let settings = config.compaction(selection);
        let (compacted, grown) = peak_extra(|| compact(&scene.layers, &scene.queries, &settings));
        all.push(compacted?);
        if all.len() == 1 {
            extra = grown;
        }
    }
    Ok((all, extra))
}

/// Times of every order, round by round.
struct Rounds {
    batched: Vec<Vec<Timing>>,
    serial: Vec<(SerialFit, Vec<Timing>)>,
    serial_layers: usize,
}

impl Rounds {
    fn run(config: &OverheadConfig, scene: &Scene, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let serial_layers = if config.only_ours { 0 } else { config.serial_layers.min(scene.layers.len()) };
        let fits = [SerialFit::Ridge, SerialFit::LeastSquares];
        let mut rounds = Self {
            batched: vec![Vec::new(); config.selections.len()],
            serial: if serial_layers > 0 { fits.map(|fit| (fit, Vec::new())).to_vec() } else { Vec::new() },
            serial_layers,
        };
        for round in 1..=config.runs {
            progress(&format!("round {round} of {}: batched", config.runs));
            for (selection, times) in config.selections.iter().zip(&mut rounds.batched) {
                let settings = config.compaction(selection);
                times.push(compact(&scene.layers, &scene.queries, &settings)?.report.timing);
            }
            for (fit, times) in &mut rounds.serial {
                progress(&format!("round {round} of {}: one head after another", config.runs));
                let (layers, queries) = (&scene.layers[..serial_layers], &scene.queries[..serial_layers]);
                times.push(compact_serially(layers, queries, config.keep_ratio, *fit)?.timing);
            }
        }
        Ok(rounds)
    }

    fn batched(
        &self,
        config: &OverheadConfig,
        spec: &SceneConfig,
        compacted: &[Compacted],
        extra: Option<u64>,
    ) -> Vec<Batched> {
        let one = |(index, times): (usize, &Vec<Timing>)| {
            let (selection, result) = (config.selections[index].clone(), &compacted[index]);
            let kept_len = result.report.kept_len;
            let settings = config.compaction(&selection);
            let (n, width) = (spec.n_queries(), spec.shape.head_dim);
            let heads = (spec.layers * spec.shape.kv_heads) as f64;
            let gflop = heads * head_flops(&settings, n, spec.seq_len, kept_len, width) / 1e9;
            let seconds = Steps::of(times);
            let bytes = |layer: &lb_am::CompactedLayer| {
                let tensors = [&layer.keys, &layer.values, &layer.bias];
                tensors.iter().map(|t| (t.elem_count() * t.dtype().size_in_bytes()) as u64).sum::<u64>()
            };
            Batched {
                selection,
                kept_len,
                seconds,
                gflop,
                gflops: gflop / seconds.total.median,
                output_bytes: result.layers.iter().map(bytes).sum(),
                extra_bytes: extra.filter(|_| index == 0),
            }
        };
        self.batched.iter().enumerate().map(one).collect()
    }

    fn baselines(&self, config: &OverheadConfig, layers: usize) -> Vec<Baseline> {
        debug_assert!(!config.selections.is_empty());
        let factor = layers as f64 / self.serial_layers.max(1) as f64;
        let one = |(fit, times): &(SerialFit, Vec<Timing>)| {
            let pairs = times.iter().zip(&self.batched[0]);
            let ratios =
                pairs.map(|(serial, ours)| factor * serial.total.as_secs_f64() / ours.total.as_secs_f64());
            Baseline {
                fit: *fit,
                layers_measured: self.serial_layers,
                seconds: Steps::of(times).times(factor),
                ratio: Stats::of(ratios),
            }
        };
        self.serial.iter().map(one).collect()
    }
}

/// Times of the main selection from 4k to 64k positions, with as many layers as fit at 64k, two at most.
fn scaling(config: &OverheadConfig, device: &Device, progress: &mut dyn FnMut(&str)) -> Result<Scaling> {
    let longest = OverheadConfig { seq_len: LENGTHS[LENGTHS.len() - 1], ..config.clone() };
    let layers = longest.scene().layers.min(2);
    let settings = config.compaction(&config.selections[0]);
    let mut points = Vec::new();
    for seq_len in LENGTHS {
        progress(&format!("{seq_len} positions"));
        let scene = SceneConfig { layers, seq_len, ..longest.scene() }.build(device)?;
        compact(&scene.layers, &scene.queries, &settings)?;
        let time = || -> Result<f64> {
            Ok(compact(&scene.layers, &scene.queries, &settings)?.report.timing.total.as_secs_f64())
        };
        let times = (0..config.runs).map(|_| time()).collect::<Result<Vec<_>>>()?;
        points.push((seq_len, Stats::of(times)));
    }
    Ok(Scaling::fit(layers, points))
}

fn device_name(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(_) => "cuda".to_owned(),
        Device::Metal(_) => "metal".to_owned(),
    }
}
