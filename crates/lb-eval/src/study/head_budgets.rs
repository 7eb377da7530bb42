//! How much each head's size matters to the answers, measured on a worker.

use candle_core::{DType, Tensor};
use lb_am::{
    Compacted, Compaction, HeadBudgets, LayerKv, Selection,
    budgets::{HeadCurve, exchange},
};
use lb_session::Error as SessionError;

use super::{Asked, Probe};
use crate::{Error, Result};

/// Sizes at which a head is tried.
const RATIOS: [f64; 5] = [0.01, 0.03, 0.1, 0.3, 0.6];
/// The size of the other heads.
const BASE: f64 = 0.1;
/// What is exchanged at a time.
const STEP: f64 = 0.005;

/// Sums of −ln p of right answers, one head's size changed at a time (AM, arXiv 2602.16284, head sensitivity curves).
#[derive(Clone, Debug, Default)]
pub struct HeadSensitivity {
    /// `[layer][head][ratio]`.
    sums: Vec<Vec<[f64; RATIOS.len()]>>,
    questions: usize,
}

impl HeadSensitivity {
    /// Adds a question: a compaction per head at each size, and an answer for each head and size.
    ///
    /// # Errors
    /// [`Error::Session`] where a compaction fails.
    pub fn add(&mut self, probe: &Probe<'_>, asked: &Asked) -> Result<()> {
        let at = |ratio: f64| {
            probe.compacted(asked, &Compaction::keep_ratio(ratio).with_selection(Selection::per_head()))
        };
        let base = at(BASE)?;
        for (index, ratio) in RATIOS.into_iter().enumerate() {
            let variant = at(ratio)?;
            for layer in 0..base.layers.len() {
                let heads = base.layers[layer].keys.dims()[0];
                for head in 0..heads {
                    let nll = probe.nll(asked, &mixed(&base, &variant, layer, head)?)?;
                    self.sums.resize(self.sums.len().max(layer + 1), Vec::new());
                    let row = &mut self.sums[layer];
                    row.resize(row.len().max(head + 1), [0.0; RATIOS.len()]);
                    row[head][index] += nll;
                }
            }
        }
        self.questions += 1;
        Ok(())
    }

    /// Mean loss of each head by its size.
    pub fn curves(&self) -> Vec<Vec<HeadCurve>> {
        let curve = |sums: &[f64; RATIOS.len()]| HeadCurve {
            points: RATIOS.into_iter().zip(sums.map(|sum| sum / self.questions.max(1) as f64)).collect(),
        };
        self.sums.iter().map(|layer| layer.iter().map(curve).collect()).collect()
    }

    /// The shares that a greedy exchange comes to.
    ///
    /// # Errors
    /// [`Error::Compaction`] where nothing was measured.
    pub fn budgets(&self) -> Result<HeadBudgets> {
        exchange(&self.curves(), BASE, STEP).map_err(Error::from)
    }
}

/// The base with one head of one layer from elsewhere; shorter heads are filled up with padding.
fn mixed(base: &Compacted, variant: &Compacted, layer: usize, head: usize) -> Result<Vec<LayerKv>> {
    let join = |index: usize| -> lb_am::Result<LayerKv> {
        let own = base.layers[index].to_layer()?;
        if index != layer {
            return Ok(own);
        }
        let other = variant.layers[index].to_layer()?;
        let slots = own.seq_len().max(other.seq_len());
        let rows = |pick: fn(&LayerKv) -> Tensor, fill: f64| -> lb_am::Result<Tensor> {
            let mut heads = Vec::new();
            for h in 0..own.kv_heads() {
                let rows = pick(if h == head { &other } else { &own }).narrow(0, h, 1)?;
                let mut dims = rows.dims().to_vec();
                dims[1] = slots - dims[1];
                let padding =
                    (Tensor::ones(dims, DType::F32, rows.device())? * fill)?.to_dtype(rows.dtype())?;
                heads.push(Tensor::cat(&[rows, padding], 1)?);
            }
            Ok(Tensor::cat(&heads, 0)?)
        };
        let bias = |layer: &LayerKv| layer.bias.clone().expect("a compacted layer carries biases");
        Ok(LayerKv::new(
            rows(|l| l.keys.clone(), 0.0)?,
            rows(|l| l.values.clone(), 0.0)?,
            Some(rows(bias, f64::NEG_INFINITY)?),
        )?
        .with_scale(own.scale))
    };
    let layers = (0..base.layers.len()).map(join).collect::<lb_am::Result<Vec<_>>>();
    Ok(layers.map_err(SessionError::from)?)
}
