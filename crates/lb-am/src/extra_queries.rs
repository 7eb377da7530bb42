//! Queries that a selector reads besides those of the compaction, and the checks on them.

use candle_core::{DType, Tensor};

use crate::backend::Backend;
use crate::error::{AtLayer, Error, Result};
use crate::layout::{LayerKv, all_finite};
use crate::selectors::Needs;

/// Queries of the context's own prefill and of its repetition, where they were given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    pub(crate) context: Option<&'a [Tensor]>,
    pub(crate) repeat: Option<&'a [Tensor]>,
}

impl Extra<'_> {
    /// Checks what is needed; the rest may be missing.
    pub(crate) fn check(
        &self,
        backend: &dyn Backend,
        needs: Needs,
        layers: &[LayerKv],
        group_size: usize,
    ) -> Result<()> {
        if needs.context {
            check(backend, "context", self.context, layers, |layer, queries| {
                rows_of("context", layer, queries, group_size, Some(layer.seq_len()))
            })?;
        }
        if needs.repeat {
            check(backend, "repeat", self.repeat, layers, |layer, queries| {
                rows_of("repeat", layer, queries, group_size, None)
            })?;
        }
        Ok(())
    }
}

fn check(
    backend: &dyn Backend,
    arg: &'static str,
    queries: Option<&[Tensor]>,
    layers: &[LayerKv],
    rows: impl Fn(&LayerKv, &Tensor) -> Result<()>,
) -> Result<()> {
    let queries = queries.filter(|queries| !queries.is_empty()).ok_or(Error::Empty { arg })?;
    if queries.len() != layers.len() {
        let expected = format!("one tensor for each of {} layers", layers.len());
        return Err(Error::Shape { arg, expected, got: vec![queries.len()] });
    }
    for (index, (layer, queries)) in layers.iter().zip(queries).enumerate() {
        rows(layer, queries).at_layer(index)?;
        all_finite(backend, arg, queries, index)?;
    }
    Ok(())
}

/// `tokens` is how many there must be, where that is known.
fn rows_of(
    arg: &'static str,
    layer: &LayerKv,
    queries: &Tensor,
    group_size: usize,
    tokens: Option<usize>,
) -> Result<()> {
    let (heads, width) = (layer.kv_heads(), layer.head_dim());
    let fits = matches!(queries.dims(), &[h, rows, d] if h == heads && d == width
        && rows % group_size == 0 && tokens.is_none_or(|tokens| rows / group_size == tokens));
    if !fits {
        let tokens = tokens.map_or("tokens".to_owned(), |tokens| tokens.to_string());
        let expected = format!("[{heads}, {group_size} * {tokens}, {width}]");
        return Err(Error::Shape { arg, expected, got: queries.dims().to_vec() });
    }
    if queries.elem_count() == 0 {
        return Err(Error::Empty { arg });
    }
    let expected = vec![DType::F32, layer.dtype()];
    if !expected.contains(&queries.dtype()) {
        return Err(Error::Dtype { arg, expected, got: queries.dtype() });
    }
    Ok(())
}
