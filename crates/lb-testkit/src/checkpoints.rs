//! The golden checkpoints, and broken copies of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use lb_model::{Checkpoint, Error, Worker};
use serde_json::Value;
use tempfile::TempDir;

use super::compare::flat;

/// Two layers, tied embeddings.
pub const TIED: &str = "tiny_tied";
/// Grouped queries, an output matrix of its own.
pub const GROUPED: &str = "tiny_grouped";

/// The path of a golden file or folder.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// What transformers said of a golden: `NAME.json`.
pub fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(&format!("{name}.json"))).unwrap()).unwrap()
}

/// Logits of a golden at its positions.
pub fn golden_logits(name: &str) -> Vec<Vec<f64>> {
    let file = golden(&format!("{name}.safetensors"));
    let logits = candle_core::safetensors::load(file, &Device::Cpu).unwrap().remove("logits").unwrap();
    (0..logits.dim(0).unwrap()).map(|i| flat(&logits.get(i).unwrap())).collect()
}

/// Tokens from JSON.
pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| u32::try_from(v.as_u64().unwrap()).unwrap()).collect()
}

/// The golden prompt of `name`.
pub fn prompt(name: &str) -> Vec<u32> {
    ids(&golden_json(name)["tokens"])
}

/// The golden checkpoint of that name, loaded.
pub fn worker(name: &str) -> Worker {
    Worker::load(golden(name)).unwrap()
}

/// A copy of a checkpoint that a test may spoil.
pub struct Copy(TempDir);

impl Copy {
    /// Copies the golden of that name.
    pub fn of(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        for file in fs::read_dir(golden(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        Self(dir)
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Changes a JSON file.
    pub fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.file(file);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut value);
        fs::write(path, value.to_string()).unwrap();
    }

    /// Changes the weights.
    pub fn edit_tensors(&self, edit: impl FnOnce(&mut HashMap<String, Tensor>)) {
        let path = self.file("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        edit(&mut tensors);
        candle_core::safetensors::save(&tensors, path).unwrap();
    }

    /// Loads it.
    pub fn load(&self) -> Worker {
        self.try_load().unwrap()
    }

    /// Loads it, or says why not.
    ///
    /// # Errors
    /// Those of [`Checkpoint::dir`] and [`Checkpoint::load`].
    pub fn try_load(&self) -> Result<Worker, Error> {
        Checkpoint::dir(self.0.path())?.load(&Device::Cpu, None)
    }

    /// The error of loading; panics when loading works.
    pub fn error(&self) -> Error {
        self.try_load().expect_err("a spoilt checkpoint must not load")
    }
}
