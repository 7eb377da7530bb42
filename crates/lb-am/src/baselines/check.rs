//! Checks on what a baseline gets.

use candle_core::{DType, Tensor};

use super::{Needs, Observation};
use crate::error::{AtLayer, Error, Result};
use crate::layout::{LayerKv, Padding, all_finite};

/// Checks the cache and the queries that are needed; returns the padding of each layer.
pub(super) fn check(needs: Needs, observation: &Observation<'_>) -> Result<Vec<Padding>> {
    let Observation { layers, task, context, repeat, group_size } = *observation;
    if layers.is_empty() {
        return Err(Error::Empty { arg: "layers" });
    }
    if group_size == 0 {
        return Err(Error::Config { field: "group_size", value: "0".into(), reason: "must be at least 1" });
    }
    let padding = layers.iter().enumerate().map(|(index, layer)| cache(layer, index).at_layer(index));
    let padding = padding.collect::<Result<Vec<_>>>()?;
    let (arg, queries) = match needs {
        Needs::Nothing => return Ok(padding),
        Needs::Task => ("task", Some(task)),
        Needs::Context => ("context", context),
        Needs::Repeat => ("repeat", repeat),
    };
    let queries = queries.filter(|queries| !queries.is_empty()).ok_or(Error::Empty { arg })?;
    if queries.len() != layers.len() {
        let expected = format!("one tensor for each of {} layers", layers.len());
        return Err(Error::Shape { arg, expected, got: vec![queries.len()] });
    }
    for (index, (layer, queries)) in layers.iter().zip(queries).enumerate() {
        let rows = (needs == Needs::Context).then(|| layer.seq_len());
        rows_of(arg, layer, queries, group_size, rows).at_layer(index)?;
        all_finite(arg, queries, index)?;
    }
    Ok(padding)
}

fn cache(layer: &LayerKv, index: usize) -> Result<Padding> {
    layer.check()?;
    all_finite("keys", &layer.keys, index)?;
    all_finite("values", &layer.values, index)?;
    Padding::of(layer, index)
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
