//! A model with its tokenizer.

use std::sync::Arc;

use lb_model::{Checkpoint, DeviceChoice, PrefillOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::briefing::Briefing;
use crate::dlpack::Array;
use crate::errors::{self, OrRaise, Raised};
use crate::interrupt::{Link, Listeners, drive};
use crate::session::{Session, config_of, generation};
use crate::tensors::array;
use crate::{refuse_copy, settings};

/// A model with its tokenizer and chat template. Cloned sessions share the weights; any number of threads may use one.
#[pyclass(frozen, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) inner: lb_model::Worker,
}

/// Opens what is found under a name; files of the hub are told of as they come.
fn open(name: &str, link: &Link) -> lb_model::Result<Checkpoint> {
    #[cfg(feature = "hub")]
    if !std::path::Path::new(name).exists() {
        let asked = lb_model::hub::Hub::new(name);
        // Not a repository's name: the usual error says what is missing.
        if let Ok(hub) = asked {
            let cancel = link.cancel.clone();
            return hub.cancel_when(move || cancel.is_cancelled()).checkpoint();
        }
    }
    let _ = link;
    Checkpoint::open(name)
}

#[pymethods]
impl Worker {
    /// The small worker that is built in. It was trained on notes such as "The Velmar ledger is kept by Anara." and is for
    /// demonstrations and tests.
    #[staticmethod]
    #[cfg(feature = "embedded")]
    fn embedded(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { inner: py.detach(lb_model::Worker::embedded).or_raise()? })
    }

    /// A checkpoint: a folder in the Hugging Face layout, a GGUF file, or `org/name` of the hub (`org/name:Q4_K_M` for one of its
    /// GGUF files), from the cache or the network. `device`: auto, cpu, cuda, cuda:N, metal. Raises ModelError.
    #[staticmethod]
    #[pyo3(signature = (name, *, device = "auto"))]
    fn load(py: Python<'_>, name: &Bound<'_, PyAny>, device: &str) -> PyResult<Self> {
        let name: std::path::PathBuf = name.extract()?;
        let name = name.to_str().ok_or_else(|| errors::config("name", "name: is no Unicode"))?.to_owned();
        let device: DeviceChoice = device.parse().map_err(Raised::raised)?;
        let opened = drive(py, &Listeners::default(), |link| {
            let checkpoint = open(&name, link)?;
            checkpoint.load(&device.open()?, None)
        })?;
        Ok(Self { inner: opened.or_raise()? })
    }

    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    #[getter]
    fn device(&self) -> String {
        format!("{:?}", self.inner.device().location()).to_lowercase()
    }

    #[getter]
    fn layers(&self) -> usize {
        self.inner.config().num_hidden_layers
    }

    #[getter]
    fn heads(&self) -> usize {
        self.inner.config().num_attention_heads
    }

    #[getter]
    fn kv_heads(&self) -> usize {
        self.inner.config().num_key_value_heads
    }

    #[getter]
    fn head_dim(&self) -> usize {
        self.inner.config().head_dim
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.config().vocab_size
    }

    /// Positions that the model was made for.
    #[getter]
    fn position_limit(&self) -> usize {
        self.inner.config().position_limit()
    }

    /// What q · k is multiplied with.
    #[getter]
    fn scale(&self) -> f32 {
        self.inner.config().attention_scale
    }

    /// What was accepted in the checkpoint although it may not be meant so.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        use lb_session::OpenSession as _;
        self.inner.session_warnings().iter().map(ToString::to_string).collect()
    }

    /// Tokens of a text; control tokens in it stay text.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        py.detach(|| self.inner.tokenizer().encode_text(text)).or_raise()
    }

    /// The text of tokens.
    fn decode(&self, py: Python<'_>, tokens: Vec<u32>) -> PyResult<String> {
        py.detach(|| self.inner.tokenizer().decode(&tokens)).or_raise()
    }

    /// Logits behind each token, an Array `[tokens, vocab]` of float32, read behind a briefing where one is given.
    #[pyo3(signature = (tokens, *, over = None))]
    fn logits(
        &self,
        py: Python<'_>,
        tokens: Vec<u32>,
        over: Option<&Bound<'_, Briefing>>,
    ) -> PyResult<Array> {
        let briefing = over.map(|briefing| Arc::clone(&briefing.get().inner));
        let read = drive(py, &Listeners::default(), |_| {
            let model = self.inner.model();
            let mut cache = match &briefing {
                Some(briefing) => briefing.cache().fork(),
                None => model.new_cache(),
            };
            model.forward_all(&tokens, &mut cache)
        })?;
        array(&read.or_raise()?).or_raise()
    }

    /// A prompt continued. `on_text` hears each piece and ends the answer by returning False. Options: max_new_tokens,
    /// temperature, top_p, top_k, seed, stop_tokens.
    #[pyo3(signature = (prompt, *, on_text = None, **options))]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: &str,
        on_text: Option<Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<String> {
        let options = generation(options, lb_model::GenerateOptions::default())?;
        let listeners = Listeners { text: on_text.as_ref(), ..Listeners::default() };
        let made = drive(py, &listeners, |link| -> lb_model::Result<String> {
            let model = self.inner.model();
            let tokens = self.inner.tokenizer().encode_prompt(prompt)?;
            let mut cache = model.new_cache();
            let mut go_on = |_, _| link.goes_on();
            let read = PrefillOptions::default();
            let logits =
                model.prefill_batch_while(&[tokens], &mut [&mut cache], &read, &mut go_on)?.remove(0);
            let mut on_token = |_, text: &str| link.goes_on() && crate::session::heard(link, 0, text);
            Ok(self.inner.generate_from_logits(&mut cache, &logits, &options, &mut on_token)?.text)
        })?;
        made.or_raise()
    }

    /// A session with an empty trajectory. Settings: admit (sources that enter the cache), max_segment_tokens; system, preamble,
    /// task_prefix, enable_thinking; max_new_tokens, temperature, top_p, top_k, seed, stop_tokens; lookup, max_batch; room ("refuse",
    /// "compact-oldest" or its settings).
    #[pyo3(signature = (**config))]
    fn session(&self, py: Python<'_>, config: Option<&Bound<'_, PyDict>>) -> PyResult<Session> {
        let config = config_of(config)?;
        let usual = config.generate.clone();
        let made = py.detach(|| lb_session::WorkerSession::with(&self.inner, config));
        Ok(Session::of(made.or_raise()?, usual))
    }

    /// A session as [`Session::save`] wrote it.
    #[pyo3(signature = (path, **config))]
    fn load_session(
        &self,
        py: Python<'_>,
        path: std::path::PathBuf,
        config: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Session> {
        let config = config_of(config)?;
        let usual = config.generate.clone();
        let read = py.detach(|| lb_session::WorkerSession::load(&self.inner, config, path));
        Ok(Session::of(read.or_raise()?, usual))
    }

    /// A briefing as [`Briefing::save`] wrote it.
    fn load_briefing(&self, py: Python<'_>, path: std::path::PathBuf) -> PyResult<Briefing> {
        let read = py.detach(|| lb_session::Briefing::load(&self.inner, path));
        Ok(Briefing { inner: Arc::new(read.or_raise()?), worker: self.inner.clone() })
    }

    /// The digests of weights, tokenizer and template.
    fn fingerprint<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let print = py.detach(|| self.inner.fingerprint().cloned()).or_raise()?;
        let out = PyDict::new(py);
        out.set_item("weights", print.weights)?;
        out.set_item("tokenizer", print.tokenizer)?;
        out.set_item("template", print.template)?;
        Ok(out)
    }

    fn __repr__(&self) -> String {
        let config = self.inner.config();
        format!(
            "Worker({:?}, {} layers, {} KV heads of width {}, {} positions)",
            self.inner.name(),
            config.num_hidden_layers,
            config.num_key_value_heads,
            config.head_dim,
            config.position_limit()
        )
    }

    fn __reduce_ex__(&self, _protocol: usize) -> PyResult<()> {
        refuse_copy("a Worker holds the weights of a model; hand over its name and call Worker.load there")
    }
}

/// What a JSON object of Python's says, for tests of the settings' grammar.
#[pyfunction]
#[pyo3(signature = (**settings))]
pub(crate) fn settings_json(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Py<PyAny>> {
    Ok(settings::from_json(py, &settings::briefing(settings)?)?.unbind())
}
