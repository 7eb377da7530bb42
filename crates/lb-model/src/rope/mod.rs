//! Rotary position embedding, the one place that rotates anything.

mod frequencies;

use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};

use crate::{ModelConfig, Result, RopeScaling};

/// The rotations of all layers: those with a window may have a base of their own.
#[derive(Debug)]
pub(crate) struct Ropes {
    global: Rope,
    local: Option<Rope>,
}

/// The same at the positions of one forward pass.
#[derive(Debug, Clone)]
pub(crate) struct Rotations {
    global: Rotation,
    local: Option<Rotation>,
}

/// Tables of cos and sin, grown to the positions that are needed.
#[derive(Debug)]
pub(crate) struct Rope {
    inv_freq: Vec<f32>,
    /// What cos and sin are multiplied by (YaRN).
    sharpening: f32,
    limit: usize,
    device: Device,
    tables: Mutex<Option<Tables>>,
}

#[derive(Debug, Clone)]
struct Tables {
    /// `[positions, head_dim / 2]`, f32.
    cos: Tensor,
    sin: Tensor,
}

/// cos and sin at the positions of one forward pass, `[tokens, head_dim / 2]`, f32.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl Ropes {
    pub(crate) fn new(config: &ModelConfig, device: &Device) -> Self {
        let local = config.local.as_ref().map(|local| {
            let rope_scaling = RopeScaling::Default;
            Rope::new(&ModelConfig { rope_theta: local.rope_theta, rope_scaling, ..config.clone() }, device)
        });
        Self { global: Rope::new(config, device), local }
    }

    /// That of a layer, with a window or without.
    pub(crate) fn of(&self, window: Option<usize>) -> &Rope {
        self.local.as_ref().filter(|_| window.is_some()).unwrap_or(&self.global)
    }

    /// The rotations of `count` tokens from logical position `start` on.
    pub(crate) fn at(&self, start: usize, count: usize) -> Result<Rotations> {
        let local = self.local.as_ref().map(|rope| rope.at(start, count)).transpose()?;
        Ok(Rotations { global: self.global.at(start, count)?, local })
    }
}

impl Rotations {
    /// That of a layer, with a window or without.
    pub(crate) fn of(&self, window: Option<usize>) -> &Rotation {
        self.local.as_ref().filter(|_| window.is_some()).unwrap_or(&self.global)
    }

    /// Those of tokens behind one another.
    pub(crate) fn joined(parts: &[Self]) -> Result<Self> {
        let global: Vec<Rotation> = parts.iter().map(|part| part.global.clone()).collect();
        let local: Vec<Rotation> = parts.iter().filter_map(|part| part.local.clone()).collect();
        let local = if local.is_empty() { None } else { Some(Rotation::joined(&local)?) };
        Ok(Self { global: Rotation::joined(&global)?, local })
    }
}

impl Rope {
    fn new(config: &ModelConfig, device: &Device) -> Self {
        let (inv_freq, sharpening) = frequencies::frequencies(config);
        Self {
            inv_freq,
            sharpening,
            limit: config.position_limit(),
            device: device.clone(),
            tables: Mutex::new(None),
        }
    }

    /// The rotation of `count` tokens from logical position `start` on.
    pub(crate) fn at(&self, start: usize, count: usize) -> Result<Rotation> {
        let tables = self.up_to(start + count)?;
        Ok(Rotation { cos: tables.cos.narrow(0, start, count)?, sin: tables.sin.narrow(0, start, count)? })
    }

    /// The rotation from each of `positions` to the one of `targets` beside it. It only turns: cached keys are sharpened
    /// already.
    pub(crate) fn between(&self, positions: &[u32], targets: &[u32]) -> Result<Rotation> {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (&position, &target) in positions.iter().zip(targets) {
            for inv_freq in &self.inv_freq {
                let angle = f64::from(target as f32 * inv_freq) - f64::from(position as f32 * inv_freq);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let table = |data| Tensor::from_vec(data, (positions.len(), self.inv_freq.len()), &self.device);
        Ok(Rotation { cos: table(cos)?, sin: table(sin)? })
    }

    fn up_to(&self, positions: usize) -> Result<Tables> {
        let mut guard = self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(tables) = guard.as_ref().filter(|t| t.cos.dims()[0] >= positions) {
            return Ok(tables.clone());
        }
        let rows = positions.next_power_of_two().clamp(512, self.limit.max(positions).max(512));
        let half = self.inv_freq.len();
        let (mut cos, mut sin) = (Vec::with_capacity(rows * half), Vec::with_capacity(rows * half));
        for position in 0..rows {
            for inv_freq in &self.inv_freq {
                let angle = f64::from(position as f32 * inv_freq);
                cos.push(angle.cos() as f32 * self.sharpening);
                sin.push(angle.sin() as f32 * self.sharpening);
            }
        }
        let table = |data: Vec<f32>| Tensor::from_vec(data, (rows, half), &self.device);
        let tables = Tables { cos: table(cos)?, sin: table(sin)? };
        *guard = Some(tables.clone());
        Ok(tables)
    }
}

/// What the scaling divides each plain frequency by.
pub(crate) fn frequency_factors(config: &ModelConfig) -> Vec<f32> {
    let plain = ModelConfig { rope_scaling: RopeScaling::Default, ..config.clone() };
    let (plain, scaled) = (frequencies::frequencies(&plain).0, frequencies::frequencies(config).0);
    plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect()
}

impl Rotation {
    /// Those of tokens behind one another.
    fn joined(parts: &[Self]) -> Result<Self> {
        if let [only] = parts {
            return Ok(only.clone());
        }
        let join = |part: fn(&Self) -> &Tensor| Tensor::cat(&parts.iter().map(part).collect::<Vec<_>>(), 0);
        Ok(Self { cos: join(|r| &r.cos)?, sin: join(|r| &r.sin)? })
    }

    /// The same angles in `dtype`.
    pub(crate) fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Ok(Self { cos: self.cos.to_dtype(dtype)?, sin: self.sin.to_dtype(dtype)? })
    }

    /// Rotates each head of `x` (`[1, heads, tokens, head_dim]`) by its token's position, in f32, halves paired
    /// as in transformers (`rotate_half`).
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?.contiguous()?;
        Ok(candle_nn::rotary_emb::rope(&x, &self.cos, &self.sin)?.to_dtype(dtype)?)
    }
}
