//! The cache of one layer, and the checks on everything that comes in.

use candle_core::{D, DType, Tensor};

use crate::backend::{self, Backend};
use crate::config::ensure;
use crate::error::{AtLayer, Error, Result};
use crate::kept::Kept;

/// The cache of one layer: what attention reads.
#[derive(Clone, Debug)]
pub struct LayerKv {
    /// Keys `[kv_heads, seq_len, head_dim]` after key norm and RoPE, each at its own position.
    pub keys: Tensor,
    /// Values, of the keys' shape and dtype.
    pub values: Tensor,
    /// Bias `[kv_heads, seq_len]` in f32 on each key's logit; `None` where nothing was ever compacted. −∞ marks
    /// padding.
    pub bias: Option<Tensor>,
    /// What q · k is multiplied with in every logit: finite and above 0, 1/√head_dim as a rule. With a wrong one every
    /// score and every fit is wrong.
    pub scale: f32,
    /// Whether keys and values are known to hold finite numbers alone, so that nobody has to look again: that reads all of
    /// them once. Set by [`known_finite`].
    pub finite: bool,
}

/// Looks at every number of the layers' keys and values once; whatever takes these layers afterwards does not look again.
///
/// # Errors
///
/// [`Error::NonFinite`] naming the layer.
pub fn known_finite(mut layers: Vec<LayerKv>) -> Result<Vec<LayerKv>> {
    let backend = backend::of(&layers);
    for (index, layer) in layers.iter_mut().enumerate() {
        layer.check().at_layer(index)?;
        check_slots(backend, layer, index).at_layer(index)?;
        layer.finite = true;
    }
    Ok(layers)
}

impl LayerKv {
    /// A checked layer with a scale of 1/√head_dim; see [`with_scale`](Self::with_scale) for others. The tensors are shared,
    /// not copied.
    ///
    /// # Shapes
    ///
    /// `keys` and `values` are `[kv_heads, seq_len, head_dim]`, `bias` is `[kv_heads, seq_len]`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Dtype`] (keys and values share one of f32, f16, bf16; the bias is f32) and
    /// [`Error::Empty`] for a dimension of zero. Values are looked at later, by [`compact`](crate::compact).
    pub fn new(keys: Tensor, values: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let mut layer = Self { keys, values, bias, scale: 1.0, finite: false };
        layer.check()?;
        layer.scale = default_scale(layer.head_dim());
        Ok(layer)
    }

    /// Sets [`scale`](Self::scale), for a model whose logits are scaled otherwise (`query_pre_attn_scalar`, for instance).
    #[must_use]
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// KV heads.
    pub fn kv_heads(&self) -> usize {
        self.dim(0)
    }

    /// Slots in the cache.
    pub fn seq_len(&self) -> usize {
        self.dim(1)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.dim(2)
    }

    /// The dtype of keys and values.
    pub fn dtype(&self) -> DType {
        self.keys.dtype()
    }

    // The fields are public, so the rank is only known once `check` has passed.
    fn dim(&self, index: usize) -> usize {
        self.keys.dims().get(index).copied().unwrap_or(0)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let &[heads, slots, _] = self.keys.dims() else {
            return Err(Error::Shape {
                arg: "keys",
                expected: "[kv_heads, seq_len, head_dim]".into(),
                got: self.keys.dims().to_vec(),
            });
        };
        same_dims("values", &self.values, self.keys.dims())?;
        if self.keys.elem_count() == 0 {
            return Err(Error::Empty { arg: "keys" });
        }
        let supported = [DType::F32, DType::F16, DType::BF16];
        one_of("keys", self.keys.dtype(), &supported)?;
        one_of("values", self.values.dtype(), &[self.keys.dtype()])?;
        if let Some(bias) = &self.bias {
            same_dims("bias", bias, &[heads, slots])?;
            one_of("bias", bias.dtype(), &[DType::F32])?;
        }
        let scale = self.scale;
        ensure(scale.is_finite() && scale > 0.0, "scale", scale, "must be finite and above 0")
    }

    pub(crate) fn check_queries(&self, queries: &Tensor) -> Result<()> {
        let fits = matches!(queries.dims(), &[heads, _, width]
            if heads == self.kv_heads() && width == self.head_dim());
        if !fits {
            let expected = format!("[{}, n_queries, {}]", self.kv_heads(), self.head_dim());
            return Err(Error::Shape { arg: "queries", expected, got: queries.dims().to_vec() });
        }
        if queries.elem_count() == 0 {
            return Err(Error::Empty { arg: "queries" });
        }
        one_of("queries", queries.dtype(), &[DType::F32, self.dtype()])
    }
}

/// 1/√d.
pub(crate) fn default_scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// Which slots of one layer are padding, per head; no list where there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Padding {
    heads: Vec<Vec<bool>>,
}

impl Padding {
    /// Reads the bias of `layer`; a head of nothing but padding has no attention and is refused.
    pub(crate) fn of(layer: &LayerKv, index: usize) -> Result<Self> {
        let Some(bias) = &layer.bias else { return Ok(Self::default()) };
        let rows = bias.to_vec2::<f32>()?;
        if rows.iter().flatten().any(|b| b.is_nan() || *b == f32::INFINITY) {
            return Err(Error::NonFinite { arg: "bias", layer: index });
        }
        let heads: Vec<Vec<bool>> =
            rows.iter().map(|row| row.iter().map(|b| *b == f32::NEG_INFINITY).collect()).collect();
        if heads.iter().any(|head| head.iter().all(|dead| *dead)) {
            return Err(Error::Empty { arg: "a head whose slots are all padding" });
        }
        let any = heads.iter().flatten().any(|dead| *dead);
        Ok(Self { heads: if any { heads } else { Vec::new() } })
    }

    /// Whether `slot` is padding in every head.
    pub(crate) fn is_dead(&self, slot: usize) -> bool {
        !self.heads.is_empty() && self.heads.iter().all(|head| head[slot])
    }

    /// Whether `slot` is padding in one head.
    pub(crate) fn is_dead_in(&self, head: usize, slot: usize) -> bool {
        self.heads.get(head).is_some_and(|head| head[slot])
    }

    /// Whether every head still has a slot that takes mass among those that are kept.
    pub(crate) fn leaves_life(&self, kept: &Kept) -> bool {
        let lives = |(h, head): (usize, &Vec<bool>)| kept.head(h).iter().any(|slot| !head[*slot as usize]);
        self.heads.iter().enumerate().all(lives)
    }
}

/// Checks all layers and queries; returns the padding of each layer.
pub(crate) fn check_inputs(
    backend: &dyn Backend,
    layers: &[LayerKv],
    queries: &[Tensor],
) -> Result<Vec<Padding>> {
    if layers.is_empty() {
        return Err(Error::Empty { arg: "layers" });
    }
    if queries.len() != layers.len() {
        let expected = format!("one tensor for each of {} layers", layers.len());
        return Err(Error::Shape { arg: "queries", expected, got: vec![queries.len()] });
    }
    layers
        .iter()
        .zip(queries)
        .enumerate()
        .map(|(index, (layer, queries))| check_layer(backend, layer, queries, index).at_layer(index))
        .collect()
}

fn check_layer(backend: &dyn Backend, layer: &LayerKv, queries: &Tensor, index: usize) -> Result<Padding> {
    layer.check()?;
    layer.check_queries(queries)?;
    if !layer.finite {
        check_slots(backend, layer, index)?;
    }
    all_finite(backend, "queries", queries, index)?;
    Padding::of(layer, index)
}

fn check_slots(backend: &dyn Backend, layer: &LayerKv, index: usize) -> Result<()> {
    all_finite(backend, "keys", &layer.keys, index)?;
    all_finite(backend, "values", &layer.values, index)
}

/// Fails where `tensor` holds NaN or an infinity.
pub(crate) fn all_finite(
    backend: &dyn Backend,
    arg: &'static str,
    tensor: &Tensor,
    layer: usize,
) -> Result<()> {
    if backend.is_finite(tensor)? { Ok(()) } else { Err(Error::NonFinite { arg, layer }) }
}

/// The length that all layers share.
pub(crate) fn common_len(layers: &[LayerKv]) -> Result<usize> {
    let first = layers.first().ok_or(Error::Empty { arg: "layers" })?.seq_len();
    for (index, layer) in layers.iter().enumerate() {
        if layer.seq_len() != first {
            let expected =
                format!("[{}, {first}, {}], as a shared mask needs", layer.kv_heads(), layer.head_dim());
            let got = layer.keys.dims().to_vec();
            return Err(Error::Shape { arg: "keys", expected, got }).at_layer(index);
        }
    }
    Ok(first)
}

fn same_dims(arg: &'static str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    Err(Error::Shape { arg, expected: format!("{expected:?}"), got: tensor.dims().to_vec() })
}

fn one_of(arg: &'static str, got: DType, expected: &[DType]) -> Result<()> {
    if expected.contains(&got) {
        return Ok(());
    }
    Err(Error::Dtype { arg, expected: expected.to_vec(), got })
}

/// The bias that the kept slots carry already; −∞ in slots that only fill up a shorter head.
pub(crate) fn carried_bias(
    layer: &LayerKv,
    kept: &Kept,
    gather: &dyn Fn(&Tensor, &Kept) -> Result<Tensor>,
) -> Result<Tensor> {
    let (heads, t, device) = (layer.kv_heads(), kept.max_len(), layer.keys.device());
    let carried = match &layer.bias {
        Some(bias) => gather(bias, kept)?,
        None => Tensor::zeros((heads, t), DType::F32, device)?,
    };
    if !kept.is_ragged() {
        return Ok(carried);
    }
    let fill: Vec<f32> = kept
        .lists()
        .iter()
        .flat_map(|list| (0..t).map(|slot| if slot < list.len() { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Ok((carried + Tensor::from_vec(fill, (heads, t), device)?)?)
}

/// The same tensor in f32, laid out for batched products.
pub(crate) fn to_f32(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F32)?.contiguous()?)
}

/// Transposes the last two dimensions without moving data.
pub(crate) fn transposed(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.transpose(D::Minus1, D::Minus2)?)
}
