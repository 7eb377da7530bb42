//! Workers to measure: the built-in one and a random one in several formats, and real files where they are named.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use latent_briefing::model::{Checkpoint, Error, GgufFormat, Worker};

use super::checkpoint;

/// A name, and what loads the worker or says why it cannot.
pub(crate) type Case = (String, Box<dyn Fn() -> Result<Worker, Error>>);

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for format in [GgufFormat::Q8_0, GgufFormat::Bf16] {
        let load = move || written(&Checkpoint::embedded(), format);
        cases.push((format!("built-in worker, {}", format.name()), Box::new(load)));
    }
    let random = |dtype: DType, format: Option<GgufFormat>| -> Box<dyn Fn() -> Result<Worker, Error>> {
        Box::new(move || {
            let folder = checkpoint(dtype);
            let source = Checkpoint::dir(folder.path())?;
            format.map_or_else(|| source.load(&Device::Cpu, Some(dtype)), |format| written(&source, format))
        })
    };
    cases.push(("four layers of 0.6B, q4_k_m".into(), random(DType::BF16, Some(GgufFormat::Q4KM))));
    cases.push(("four layers of 0.6B, bf16".into(), random(DType::BF16, None)));
    cases.push(("four layers of 0.6B, f32".into(), random(DType::F32, None)));
    for path in real() {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        cases.push((name, Box::new(move || Checkpoint::gguf(&path)?.load(&Device::Cpu, None))));
    }
    cases
}

/// The checkpoint by way of a file.
fn written(checkpoint: &Checkpoint, format: GgufFormat) -> Result<Worker, Error> {
    let folder = tempfile::tempdir().expect("the folder of temporary files can be written to");
    let path = folder.path().join("model.gguf");
    checkpoint.write_gguf(&path, format)?;
    Checkpoint::gguf(&path)?.load(&Device::Cpu, None)
}

fn real() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("LATENT_BRIEFING_REAL_MODELS") else { return Vec::new() };
    let entries = std::fs::read_dir(Path::new(&folder)).expect("the folder of real models");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    paths.sort();
    paths
}

/// The middle one, of two the higher.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
