//! `compact`: a cache that Python holds, compacted.

use candle_core::{Device, Tensor};
use lb_am::backend::{self, Attended, FitInput, Fitted, Observing};
use lb_am::{Backend, Compacted, Compactor, Kept, LayerKv, Observed, PackedBits, Timing};
use lb_session::CancelToken;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::errors::{self, OrRaise, Raised};
use crate::interrupt::{Listeners, drive};
use crate::settings;
use crate::tensors::{Layers, array};

/// Multiplications from which on a call is worth a thread of its own: some milliseconds.
const LONG: usize = 1 << 25;

/// The CPU's backend, until the call is called off.
#[derive(Debug)]
struct Guarded<'a> {
    inner: &'static dyn Backend,
    cancel: &'a CancelToken,
}

impl Guarded<'_> {
    fn check(&self) -> lb_am::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(lb_am::Error::Tensor(candle_core::Error::msg("called off")));
        }
        Ok(())
    }
}

impl Backend for Guarded<'_> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn serves(&self, device: &Device) -> bool {
        self.inner.serves(device)
    }

    fn observe(
        &self,
        layers: &[LayerKv],
        queries: &[Tensor],
        what: Observing,
    ) -> lb_am::Result<Vec<Observed>> {
        // As many layers at a time as there are threads for, so that a call is not waited for until the last.
        let size = rayon::current_num_threads().max(1);
        let mut all = Vec::with_capacity(layers.len());
        for (number, (layers, queries)) in layers.chunks(size).zip(queries.chunks(size)).enumerate() {
            self.check()?;
            let seen =
                self.inner.observe(layers, queries, what).map_err(|error| later(error, number * size))?;
            all.extend(seen);
        }
        Ok(all)
    }

    fn attend(&self, layer: &LayerKv, queries: &Tensor) -> lb_am::Result<Attended> {
        self.check()?;
        self.inner.attend(layer, queries)
    }

    fn gather(&self, tensor: &Tensor, kept: &Kept) -> lb_am::Result<Tensor> {
        self.inner.gather(tensor, kept)
    }

    fn fit(&self, input: &FitInput<'_>, timing: &mut Timing) -> lb_am::Result<Fitted> {
        self.check()?;
        self.inner.fit(input, timing)
    }

    fn is_finite(&self, tensor: &Tensor) -> lb_am::Result<bool> {
        self.inner.is_finite(tensor)
    }
}

/// The same error in a list that begins `by` layers before.
fn later(error: lb_am::Error, by: usize) -> lb_am::Error {
    match error {
        lb_am::Error::Layer { index, source } => lb_am::Error::Layer { index: index + by, source },
        lb_am::Error::NonFinite { arg, layer } => lb_am::Error::NonFinite { arg, layer: layer + by },
        other => other,
    }
}

/// Everything that Python hands over, checked as far as shapes go.
struct Input {
    layers: Vec<LayerKv>,
    queries: Vec<Tensor>,
    context: Option<Vec<Tensor>>,
    repeat: Option<Vec<Tensor>>,
    group_size: usize,
    at: Option<Vec<Kept>>,
    counts: Option<Vec<Vec<usize>>>,
    units: Option<Vec<u32>>,
    config: lb_am::Compaction,
    bits: Option<PackedBits>,
}

impl Input {
    fn run(&self, backend: Option<&dyn Backend>) -> lb_am::Result<Compacted> {
        let mut compactor = Compactor::new(&self.layers, &self.queries, &self.config)
            .group_size(self.group_size)
            .packed(self.bits);
        if let Some(units) = &self.units {
            compactor = compactor.units(units);
        }
        if let Some(context) = &self.context {
            compactor = compactor.context(context);
        }
        if let Some(repeat) = &self.repeat {
            compactor = compactor.repeat(repeat);
        }
        if let Some(counts) = &self.counts {
            compactor = compactor.counts(counts);
        }
        if let Some(kept) = &self.at {
            compactor = compactor.at(kept);
        }
        if let Some(backend) = backend {
            compactor = compactor.with_backend(backend);
        }
        compactor.run()
    }

    fn is_long(&self) -> bool {
        let work =
            |(layer, queries): (&LayerKv, &Tensor)| queries.elem_count().saturating_mul(layer.seq_len());
        self.layers.iter().zip(&self.queries).map(work).fold(0, usize::saturating_add) > LONG
    }
}

/// Queries of each layer as rows of its KV heads, and how many query heads share one.
fn grouped(
    queries: &[Tensor],
    layers: &[LayerKv],
    group_size: Option<usize>,
) -> PyResult<(Vec<Tensor>, usize)> {
    let mut group = group_size;
    let mut out = Vec::with_capacity(queries.len());
    for (queries, layer) in queries.iter().zip(layers) {
        let (heads, rows, width) = queries.dims3().or_raise()?;
        let kv_heads = layer.kv_heads();
        if heads == kv_heads || kv_heads == 0 || heads % kv_heads != 0 {
            // Rows are grouped already, or what is wrong is told by who reads them.
            out.push(queries.clone());
            continue;
        }
        let found = heads / kv_heads;
        if *group.get_or_insert(found) != found {
            let given = group.unwrap_or(found);
            return Err(errors::tensor(format!(
                "queries: {heads} heads for {kv_heads} KV heads are groups of {found}, not of {given}"
            )));
        }
        // The heads of a group lie side by side, so nothing moves.
        out.push(queries.reshape((kv_heads, found * rows, width)).or_raise()?);
    }
    Ok((out, group.unwrap_or(1)))
}

/// Slots that are given: for all layers, or for each; for all heads, or for each.
fn given(at: &Bound<'_, PyAny>) -> PyResult<Vec<Kept>> {
    if let Ok(shared) = at.extract::<Vec<u32>>() {
        return Ok(vec![Kept::shared(shared)]);
    }
    let layer = |layer: Bound<'_, PyAny>| -> PyResult<Kept> {
        if let Ok(shared) = layer.extract::<Vec<u32>>() {
            return Ok(Kept::shared(shared));
        }
        let lists = layer.extract::<Vec<Vec<u32>>>();
        Ok(Kept::per_head(lists.map_err(|_| {
            errors::config(
                "at",
                "at: want slots for all layers, for each layer, or for each head of each layer",
            )
        })?))
    };
    at.try_iter()?.map(|item| layer(item?)).collect()
}

/// Tensors in, tensors and a report out; see `latent_briefing.compact`.
#[pyfunction]
#[pyo3(signature = (keys, values, queries, bias, scale, group_size, at, units, context, repeat, counts, settings))]
#[allow(clippy::too_many_arguments, reason = "called by one Python function, which names them")]
pub(crate) fn compact<'py>(
    py: Python<'py>,
    keys: &Bound<'py, PyAny>,
    values: &Bound<'py, PyAny>,
    queries: &Bound<'py, PyAny>,
    bias: Option<Bound<'py, PyAny>>,
    scale: Option<f32>,
    group_size: Option<usize>,
    at: Option<Bound<'py, PyAny>>,
    units: Option<Vec<u32>>,
    context: Option<Bound<'py, PyAny>>,
    repeat: Option<Bound<'py, PyAny>>,
    counts: Option<Vec<Vec<usize>>>,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (config, bits) = settings::compaction(settings)?;
    // What is lent is declared first, so that it goes last.
    let keys = Layers::of(keys, "keys")?;
    let values = Layers::of(values, "values")?;
    let queries = Layers::of(queries, "queries")?;
    let of =
        |object: Option<Bound<'py, PyAny>>, arg| object.map(|object| Layers::of(&object, arg)).transpose();
    let (context, repeat) = (of(context, "context")?, of(repeat, "repeat")?);
    for (arg, other) in [("values", &values), ("queries", &queries)] {
        if other.tensors.len() != keys.tensors.len() {
            let (got, want) = (other.tensors.len(), keys.tensors.len());
            return Err(errors::tensor(format!("{arg}: {got} layers, keys: {want}")));
        }
    }
    let biases = bias.map(|bias| Layers::biases(&bias, "bias")).transpose()?;
    let layers = (0..keys.tensors.len()).map(|index| {
        let bias = biases.as_ref().and_then(|biases| biases.get(index)).cloned();
        let layer = LayerKv::new(keys.tensors[index].clone(), values.tensors[index].clone(), bias);
        let layer = layer.map_err(|source| lb_am::Error::Layer { index, source: Box::new(source) })?;
        Ok(match scale {
            Some(scale) => layer.with_scale(scale),
            None => layer,
        })
    });
    let layers = layers.collect::<lb_am::Result<Vec<_>>>().or_raise()?;
    let (grouped_queries, group_size) = grouped(&queries.tensors, &layers, group_size)?;
    let extra = |extra: &Option<Layers>| -> PyResult<Option<Vec<Tensor>>> {
        let Some(extra) = extra else { return Ok(None) };
        Ok(Some(grouped(&extra.tensors, &layers, Some(group_size))?.0))
    };
    let (context_rows, repeat_rows) = (extra(&context)?, extra(&repeat)?);
    let input = Input {
        layers,
        queries: grouped_queries,
        context: context_rows,
        repeat: repeat_rows,
        group_size,
        at: at.map(|at| given(&at)).transpose()?,
        counts,
        units,
        config,
        bits,
    };
    let done = if input.is_long() {
        let inner = backend::of(&input.layers);
        drive(py, &Listeners::default(), |link| input.run(Some(&Guarded { inner, cancel: &link.cancel })))?
    } else {
        py.detach(|| input.run(None))
    };
    let copied = [&keys, &values, &queries].into_iter().map(|layers| layers.copied).sum::<usize>();
    let compacted = done.map_err(Raised::raised)?;
    let out = told(py, &compacted, copied);
    // Nothing may look at what was lent once it is given back.
    drop(compacted);
    drop(input);
    out
}

fn told<'py>(py: Python<'py>, compacted: &Compacted, copied: usize) -> PyResult<Bound<'py, PyDict>> {
    let layers = PyList::empty(py);
    for layer in &compacted.layers {
        let one = PyDict::new(py);
        one.set_item("keys", Py::new(py, array(&layer.keys).or_raise()?)?)?;
        one.set_item("values", Py::new(py, array(&layer.values).or_raise()?)?)?;
        one.set_item("bias", Py::new(py, array(&layer.bias).or_raise()?)?)?;
        one.set_item("kept", layer.kept.lists())?;
        one.set_item("scale", layer.scale)?;
        layers.append(one)?;
    }
    let out = PyDict::new(py);
    out.set_item("layers", layers)?;
    out.set_item("report", settings::from_json(py, &compacted.report)?)?;
    out.set_item("copied_bytes", copied)?;
    Ok(out)
}
