//! One briefing on its way.

use candle_core::{DType, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use lb_am::LayerKv;
use lb_model::{Differentiable, Past};
use lb_session::Briefing;

use super::Lesson;
use crate::loss::{Aim, loss};
use crate::{Error, Result};

/// What is trained, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// Of AdamW, above 0, at most 1: a value moves by about so much of its layer's root mean square in a step, a bias by so many nats.
    pub rate: f64,
    /// Whether the values are trained.
    pub values: bool,
    /// Whether the biases are.
    pub biases: bool,
}

impl Default for Learning {
    fn default() -> Self {
        Self { rate: 0.01, values: true, biases: true }
    }
}

/// A briefing whose values and biases are trained from the closed form on.
#[derive(Debug)]
pub struct TrainedBriefing<'a> {
    path: &'a Differentiable<'a>,
    start: &'a Briefing,
    layers: Vec<Moving>,
    optimizer: AdamW,
    steps: usize,
}

/// A layer, and how far it has moved.
#[derive(Debug)]
struct Moving {
    /// As the briefing has it, in f32, with a bias.
    start: LayerKv,
    /// Root mean square of its values.
    size: f64,
    values: Option<Var>,
    biases: Option<Var>,
}

impl<'a> TrainedBriefing<'a> {
    /// `start` before the first step.
    ///
    /// # Errors
    /// [`Error::Config`] for a rate out of range and where nothing would be trained, [`Error::Model`] for a briefing of another model.
    pub fn new(path: &'a Differentiable<'a>, start: &'a Briefing, learning: Learning) -> Result<Self> {
        let Learning { rate, values, biases } = learning;
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(Error::config("rate", rate, "want above 0, at most 1"));
        }
        if !values && !biases {
            return Err(Error::config("values", values, "want values or biases to train"));
        }
        let layers: Vec<Moving> = start
            .cache()
            .layers()?
            .into_iter()
            .map(|layer| Moving::new(&layer, learning, path.dtype()))
            .collect::<Result<_>>()?;
        let variables = layers.iter().flat_map(|layer| [&layer.values, &layer.biases]).flatten().cloned();
        let params = ParamsAdamW { lr: rate, weight_decay: 0.0, ..ParamsAdamW::default() };
        let optimizer = AdamW::new(variables.collect(), params)?;
        Ok(Self { path, start, layers, optimizer, steps: 0 })
    }

    /// One step on the next of `lessons`, which are taken in turns. Returns the loss before it: KL from the full cache, nats a token.
    ///
    /// # Errors
    /// [`Error::Empty`] for no lesson, [`Error::Diverged`], [`Error::Model`] for a lesson that does not fit.
    pub fn step(&mut self, lessons: &[Lesson]) -> Result<f64> {
        let lesson = lessons.get(self.steps % lessons.len().max(1)).ok_or(Error::Empty { arg: "lessons" })?;
        let mean = self.mean(lesson)?;
        let value = mean.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !value.is_finite() {
            return Err(Error::Diverged { step: self.steps });
        }
        self.optimizer.step(&mean.backward()?)?;
        self.steps += 1;
        Ok(value)
    }

    /// Steps that were taken.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The mean loss over lessons as things are, KL from the full cache, nats a token.
    ///
    /// # Errors
    /// [`Error::Empty`] for no lesson, [`Error::Model`].
    pub fn loss(&self, lessons: &[Lesson]) -> Result<f64> {
        if lessons.is_empty() {
            return Err(Error::Empty { arg: "lessons" });
        }
        let mut sum = 0.0;
        for lesson in lessons {
            sum += self.mean(lesson)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        }
        Ok(sum / lessons.len() as f64)
    }

    /// The briefing as things are: it is saved, loaded and answered over as any other.
    ///
    /// # Errors
    /// [`Error::Session`] for a briefing that carries its task's own state.
    pub fn briefing(&self) -> Result<Briefing> {
        let layers = self.layers.iter().map(Moving::now).collect::<Result<Vec<_>>>()?;
        Ok(self.start.refitted(&layers, self.path.config())?)
    }

    fn mean(&self, lesson: &Lesson) -> Result<Tensor> {
        let layers = self.layers.iter().map(Moving::now).collect::<Result<Vec<_>>>()?;
        let past = Past { layers, positions: self.start.cache().logical_len() };
        let rows = self.path.embeddings(&lesson.read)?;
        let logits = self.path.logits(&rows, Some(&past), lesson.tokens())?;
        loss(&logits, Aim::Chances(&lesson.chances))
    }
}

impl Moving {
    fn new(layer: &LayerKv, learning: Learning, dtype: DType) -> Result<Self> {
        let (heads, slots, device) = (layer.kv_heads(), layer.seq_len(), layer.keys.device().clone());
        let bias = match &layer.bias {
            Some(bias) => bias.to_dtype(dtype)?,
            None => Tensor::zeros((heads, slots), dtype, &device)?,
        };
        let (keys, values) = (layer.keys.to_dtype(dtype)?, layer.values.to_dtype(dtype)?);
        let size = values.sqr()?.mean_all()?.sqrt()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let still = |wanted: bool, like: &Tensor| {
            wanted.then(|| Var::zeros(like.shape(), dtype, &device)).transpose()
        };
        let (moved, lifted) = (still(learning.values, &values)?, still(learning.biases, &bias)?);
        let start = LayerKv { keys, values, bias: Some(bias), ..*layer };
        Ok(Self { start, size, values: moved, biases: lifted })
    }

    /// The layer as it is now, with gradients.
    fn now(&self) -> Result<LayerKv> {
        let mut layer = self.start.clone();
        if let Some(moved) = &self.values {
            layer.values = (layer.values + (moved.as_tensor() * self.size)?)?;
        }
        if let (Some(lifted), Some(bias)) = (&self.biases, layer.bias.take()) {
            layer.bias = Some((bias + lifted.as_tensor())?);
        }
        Ok(layer)
    }
}
