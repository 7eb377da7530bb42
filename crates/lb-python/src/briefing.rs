//! A compacted cache, and what it shows of itself.

use std::sync::Arc;

use lb_io::shown::visible;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::errors::OrRaise;
use crate::tensors::array;
use crate::{refuse_copy, settings};

/// A compacted cache with the report on how it came about, independent of the session that it was cut from.
#[pyclass(frozen, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Briefing {
    pub(crate) inner: Arc<lb_session::Briefing>,
    pub(crate) worker: lb_model::Worker,
}

#[pymethods]
impl Briefing {
    #[getter]
    fn task(&self) -> &str {
        &self.inner.task().question
    }

    #[getter]
    fn seq_len(&self) -> usize {
        self.inner.seq_len()
    }

    /// Slots that stay, on average over layers and heads.
    #[getter]
    fn kept_len(&self) -> usize {
        self.inner.kept_len()
    }

    #[getter]
    fn keep_ratio(&self) -> f64 {
        self.inner.keep_ratio()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.inner.cache().bytes()
    }

    /// For each position, the share of the (layer, KV head) pairs that have it, an Array `[seq_len]` of float32.
    #[getter]
    fn kept_by(&self) -> crate::dlpack::Array {
        let shares = self.inner.kept_by().to_vec();
        let count = shares.len();
        crate::dlpack::Array::f32(shares, &[count])
    }

    /// Scores of positions over all layers and heads before they are pooled, an Array `[seq_len]` of float32.
    #[getter]
    fn scores(&self) -> crate::dlpack::Array {
        let scores = self.inner.report().raw_scores.clone();
        let count = scores.len();
        crate::dlpack::Array::f32(scores, &[count])
    }

    /// The positions that half of the heads have, or twice the average share of them.
    #[getter]
    fn kept_positions(&self) -> Vec<usize> {
        let many = self.inner.many();
        let kept = self.inner.kept_by().iter().enumerate();
        kept.filter(|(_, share)| **share >= many).map(|(slot, _)| slot).collect()
    }

    #[getter]
    fn draft(&self) -> Vec<u32> {
        self.inner.draft().to_vec()
    }

    /// Seconds.
    #[getter]
    fn timing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let timing = self.inner.timing();
        let out = PyDict::new(py);
        out.set_item("queries", timing.queries.as_secs_f64())?;
        out.set_item("compaction", timing.compaction.as_secs_f64())?;
        out.set_item("total", timing.total().as_secs_f64())?;
        Ok(out)
    }

    #[getter]
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        settings::from_json(py, self.inner.report())
    }

    /// Dictionaries of keys and values, `[kv_heads, slots, head_dim]`, bias, `[kv_heads, slots]`, and scale of every layer, as Arrays. Where
    /// heads keep different counts, shorter ones are filled up with zeros and a bias of −inf.
    fn layers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let layers = py.detach(|| self.inner.cache().layers()).or_raise()?;
        let out = PyList::empty(py);
        for layer in layers {
            let one = PyDict::new(py);
            one.set_item("keys", Py::new(py, array(&layer.keys).or_raise()?)?)?;
            one.set_item("values", Py::new(py, array(&layer.values).or_raise()?)?)?;
            let bias = match &layer.bias {
                Some(bias) => bias.clone(),
                None => candle_core::Tensor::zeros(
                    (layer.kv_heads(), layer.seq_len()),
                    candle_core::DType::F32,
                    layer.keys.device(),
                )
                .or_raise()?,
            };
            one.set_item("bias", Py::new(py, array(&bias).or_raise()?)?)?;
            one.set_item("scale", layer.scale)?;
            out.append(one)?;
        }
        Ok(out)
    }

    /// Text, score, whether it counts as kept, and by how many heads, of every position.
    fn explain(&self, py: Python<'_>) -> Vec<(String, f32, bool, f32)> {
        let positions = py.detach(|| self.inner.explain(&self.worker));
        positions.into_iter().map(|p| (p.piece, p.score, p.kept, p.kept_by)).collect()
    }

    /// The page that shows every token, kept ones coloured by the attention that the task pays them; self-contained.
    #[pyo3(signature = (answer = ""))]
    fn html(&self, py: Python<'_>, answer: &str) -> PyResult<String> {
        py.detach(|| lb_explain::heat_map(&self.inner, &self.worker, answer)).or_raise()
    }

    /// The heat map, as notebooks show it.
    fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("latent_briefing")?.call_method1("_briefing_repr_html", (slf,))?.extract()
    }

    /// Writes the briefing to a file; Worker.load_briefing of any worker of the same model reads it.
    fn save(&self, py: Python<'_>, path: std::path::PathBuf) -> PyResult<()> {
        py.detach(|| self.inner.save(&self.worker, path)).or_raise()
    }

    fn __len__(&self) -> usize {
        self.inner.kept_len()
    }

    fn __repr__(&self) -> String {
        format!(
            "Briefing({} of {} positions, {:.1} %, for {:?})",
            self.inner.kept_len(),
            self.inner.seq_len(),
            100.0 * self.inner.keep_ratio(),
            visible(&self.inner.task().question)
        )
    }

    fn __reduce_ex__(&self, _protocol: usize) -> PyResult<()> {
        refuse_copy(
            "a Briefing holds a cache and belongs to a model; write it with save(path) and read it with \
             worker.load_briefing(path)",
        )
    }
}
