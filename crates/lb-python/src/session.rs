//! Sessions and snapshots: a trajectory that grows, is briefed from and asked about.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_model::GenerateOptions;
use lb_session::{
    Ask, BoundaryPolicy, CompactOldest, Error, Handoff, OpenSession as _, Outcome, RoomPolicy, Segment,
    SessionConfig, Source, Task, Trajectory, WorkerSession,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple};

use crate::briefing::Briefing;
use crate::dlpack::Array;
use crate::errors::{self, OrRaise};
use crate::interrupt::{Event, Link, Listeners, Reply, drive, glanced, locked};
use crate::{refuse_copy, settings};

/// A worker with a trajectory in its cache, which grows by the new tokens only. Calls from several threads take turns; a snapshot
/// is asked from all of them at once.
#[pyclass(frozen, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Session {
    inner: Mutex<WorkerSession>,
    /// How answers are written where a call says nothing else.
    usual: GenerateOptions,
}

/// What a worker has of a trajectory at one moment: nothing changes it, and any number of threads may brief and ask over it.
#[pyclass(frozen, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Snapshot {
    inner: lb_session::Snapshot,
    usual: GenerateOptions,
}

/// An answer, and what was done for it.
#[pyclass(frozen, get_all, module = "latent_briefing._native")]
#[derive(Debug)]
pub(crate) struct Answer {
    text: String,
    stopped: String,
    handoff: String,
    seq_len: usize,
    kept_len: usize,
    keep_ratio: f64,
    cache_bytes: usize,
    tokens: Py<PyDict>,
    seconds: Py<PyDict>,
    briefing: Option<Py<Briefing>>,
}

#[pymethods]
impl Answer {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        let Self { text, handoff, kept_len, seq_len, .. } = self;
        format!("Answer({text:?}, over {handoff}, {kept_len} of {seq_len} positions)")
    }
}

/// Who hears of progress: what is given, a bar for `True`, a bar in notebooks where nothing is said.
fn shown<'py>(py: Python<'py>, given: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let bars = || py.import("latent_briefing._progress");
    let heard = match given {
        None => bars()?.call_method0("usual")?,
        Some(given) if given.is_instance_of::<PyBool>() => {
            if !given.is_truthy()? {
                return Ok(None);
            }
            bars()?.call_method0("bar")?
        }
        Some(given) => given.clone(),
    };
    Ok(Some(heard).filter(|heard| !heard.is_none()))
}

/// Tells a piece of an answer; whether it is to go on.
pub(crate) fn heard(link: &Link, number: usize, text: &str) -> bool {
    text.is_empty() || matches!(link.ask(Event::Text(number, text.to_owned())), Reply::GoOn(true))
}

/// How an answer is written, from keyword arguments.
pub(crate) fn generation(
    given: Option<&Bound<'_, PyDict>>,
    usual: GenerateOptions,
) -> PyResult<GenerateOptions> {
    let mut options = usual;
    for (key, value) in given.into_iter().flatten() {
        let key: String = key.extract()?;
        if !set_generation(&mut options, &key, &value)? {
            return Err(errors::config(&key, format!("there is no setting {key:?} of a generation")));
        }
    }
    options.validate().or_raise()?;
    Ok(options)
}

fn set_generation(options: &mut GenerateOptions, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match key {
        "max_new_tokens" => options.max_new_tokens = value.extract()?,
        "temperature" => options.temperature = value.extract()?,
        "top_p" => options.top_p = value.extract()?,
        "top_k" => options.top_k = value.extract()?,
        "seed" => options.seed = value.extract()?,
        "stop_tokens" => options.stop_tokens = value.extract()?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn source_of(tag: &str) -> PyResult<Source> {
    Source::of_tag(tag).ok_or_else(|| {
        let known: Vec<&str> = Source::ALL.into_iter().map(Source::tag).collect();
        errors::config("source", format!("source: {tag:?} is none of {}", known.join(", ")))
    })
}

/// How a session behaves, from keyword arguments.
pub(crate) fn config_of(given: Option<&Bound<'_, PyDict>>) -> PyResult<SessionConfig> {
    let mut config = SessionConfig::default();
    for (key, value) in given.into_iter().flatten() {
        let key: String = key.extract()?;
        match &*key {
            "admit" => {
                let tags: Vec<String> = value.extract()?;
                let sources = tags.iter().map(|tag| source_of(tag)).collect::<PyResult<Vec<_>>>()?;
                config.policy.admit = BoundaryPolicy::nothing().admitting(sources).admit;
            }
            "max_segment_tokens" => config.policy.max_segment_tokens = value.extract()?,
            "system" => config.format.system = value.extract()?,
            "preamble" => config.format.preamble = value.extract()?,
            "task_prefix" => config.format.task_prefix = value.extract()?,
            "enable_thinking" => config.format.enable_thinking = value.extract()?,
            "lookup" => config.lookup = value.extract()?,
            "max_batch" => config.max_batch = value.extract()?,
            "room" => config.room = room_of(&value)?,
            _ if set_generation(&mut config.generate, &key, &value)? => {}
            _ => return Err(errors::config(&key, format!("there is no setting {key:?} of a session"))),
        }
    }
    Ok(config)
}

fn room_of(value: &Bound<'_, PyAny>) -> PyResult<RoomPolicy> {
    let text: Option<String> = value.extract().ok();
    match text.as_deref() {
        Some("refuse") => Ok(RoomPolicy::Refuse),
        Some("compact-oldest") => Ok(RoomPolicy::CompactOldest(CompactOldest::default())),
        _ => {
            let json = settings::json_of(value)?;
            let read: Result<CompactOldest, _> = serde_json::from_str(&json);
            read.map(RoomPolicy::CompactOldest).map_err(|error| {
                errors::config("room", format!("room: want refuse, compact-oldest or its settings: {error}"))
            })
        }
    }
}

/// Segments: a text, a pair of source and text, a dictionary, or a list of such.
fn segments_of(given: &Bound<'_, PyAny>, source: &str, name: Option<&str>) -> PyResult<Vec<Segment>> {
    if let Ok(text) = given.extract::<String>() {
        let segment = Segment::new(source_of(source)?, text);
        return Ok(vec![match name {
            Some(name) => segment.named(name),
            None => segment,
        }]);
    }
    if let Ok(pair) = given.cast::<PyTuple>() {
        let (source, text): (String, String) = pair.extract()?;
        return Ok(vec![Segment::new(source_of(&source)?, text)]);
    }
    if let Ok(fields) = given.cast::<PyDict>() {
        let text = fields.get_item("text")?.ok_or_else(|| errors::config("text", "a segment has no text"))?;
        let tag: String = fields.get_item("source")?.map_or(Ok(source.to_owned()), |tag| tag.extract())?;
        let name: Option<String> = fields.get_item("name")?.map(|name| name.extract()).transpose()?.flatten();
        return segments_of(&text, &tag, name.as_deref());
    }
    let mut all = Vec::new();
    for item in given.try_iter()? {
        all.extend(segments_of(&item?, source, name)?);
    }
    Ok(all)
}

/// A task: a question, or a question about a slice.
fn task_of(question: &str, slice: Option<&str>) -> Task {
    match slice {
        Some(slice) => Task::about(slice, question),
        None => Task::from(question),
    }
}

/// How a question is asked.
struct Asking {
    over: Option<Arc<lb_session::Briefing>>,
    handoff: Handoff,
    timeout: Option<Duration>,
    generate: Option<GenerateOptions>,
}

impl Asking {
    /// Takes what is about writing out of `settings`; the rest is a briefing's.
    fn of(
        over: Option<&Bound<'_, Briefing>>,
        via: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
        settings: Option<&Bound<'_, PyDict>>,
        usual: GenerateOptions,
    ) -> PyResult<Self> {
        let mut options = usual;
        let mut writes = false;
        let rest = settings.map(|all| -> PyResult<Bound<'_, PyDict>> {
            let rest = PyDict::new(all.py());
            for (key, value) in all {
                let name: String = key.extract()?;
                if set_generation(&mut options, &name, &value)? {
                    writes = true;
                } else {
                    rest.set_item(key, value)?;
                }
            }
            Ok(rest)
        });
        let rest = rest.transpose()?;
        options.validate().or_raise()?;
        if over.is_some() && (via.is_some() || rest.as_ref().is_some_and(|rest| !rest.is_empty())) {
            return Err(errors::config(
                "over",
                "over: a briefing is there already; no other settings of one go with it",
            ));
        }
        let handoff = if over.is_some() { Handoff::None } else { settings::handoff(via, rest.as_ref())? };
        let timeout = timeout.map(|seconds| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|error| errors::config("timeout", format!("timeout: {error}")))
        });
        Ok(Self {
            over: over.map(|briefing| Arc::clone(&briefing.get().inner)),
            handoff,
            timeout: timeout.transpose()?,
            generate: writes.then_some(options),
        })
    }

    fn put<'a, T>(&'a self, mut ask: Ask<'a, T>, link: &'a Link) -> Ask<'a, T> {
        ask = ask.cancelled_by(&link.cancel);
        if let Some(timeout) = self.timeout {
            ask = ask.timeout(timeout);
        }
        if let Some(options) = &self.generate {
            ask = ask.generating(options.clone());
        }
        if self.over.is_none() {
            ask = ask.via(self.handoff.clone());
        }
        ask
    }

    fn one<'a>(&'a self, ask: Ask<'a>, link: &'a Link) -> lb_session::Result<Outcome> {
        let mut ask = self.put(ask, link);
        if let Some(briefing) = &self.over {
            ask = ask.over(briefing);
        }
        ask.stream(|text| heard(link, 0, text)).run()
    }

    fn all<'a>(&'a self, ask: Ask<'a, Vec<Task>>, link: &'a Link) -> lb_session::Result<Vec<Outcome>> {
        self.put(ask, link).stream(|number, text| heard(link, number, text)).run()
    }
}

fn answer_of(py: Python<'_>, outcome: Outcome, worker: &lb_model::Worker) -> PyResult<Answer> {
    let Outcome { answer, kept_len, keep_ratio, briefing, record, .. } = outcome;
    let tokens = PyDict::new(py);
    for (name, count) in [
        ("attended", record.tokens.attended),
        ("prefilled", record.tokens.prefilled),
        ("reused", record.tokens.reused),
        ("drafted", record.tokens.drafted),
        ("generated", record.tokens.generated),
    ] {
        tokens.set_item(name, count)?;
    }
    let seconds = PyDict::new(py);
    for (name, time) in
        [("prefill", record.times.prefill), ("brief", record.times.brief), ("decode", record.times.decode)]
    {
        seconds.set_item(name, time.as_secs_f64())?;
    }
    let briefing = briefing.map(|briefing| Briefing { inner: Arc::new(briefing), worker: worker.clone() });
    Ok(Answer {
        text: answer.text,
        stopped: format!("{:?}", answer.stopped).to_lowercase(),
        handoff: record.handoff.name().to_owned(),
        seq_len: record.seq_len,
        kept_len,
        keep_ratio,
        cache_bytes: record.cache_bytes,
        tokens: tokens.unbind(),
        seconds: seconds.unbind(),
        briefing: briefing.map(|briefing| Py::new(py, briefing)).transpose()?,
    })
}

/// The logarithm of each token's probability.
fn log_probabilities(logits: &candle_core::Tensor, answer: &[u32]) -> lb_session::Result<Vec<f32>> {
    let rows = logits.to_vec2::<f32>().map_err(lb_model::Error::from)?;
    let one = |(row, token): (&Vec<f32>, &u32)| {
        let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
        (f64::from(row[*token as usize]) - most - sum.ln()) as f32
    };
    Ok(rows.iter().zip(answer).map(one).collect())
}

impl Session {
    pub(crate) fn of(inner: WorkerSession, usual: GenerateOptions) -> Self {
        Self { inner: Mutex::new(inner), usual }
    }

    fn glance<R>(&self, py: Python<'_>, look: impl FnOnce(&WorkerSession) -> R) -> R {
        look(&glanced(py, &self.inner))
    }

    fn extended<'py>(
        &self,
        py: Python<'py>,
        segments: Vec<Segment>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let progress = shown(py, progress)?;
        let listeners = Listeners { progress: progress.as_ref(), ..Listeners::default() };
        let done = drive(py, &listeners, |link| {
            let mut session = locked(&self.inner, link).ok_or(Error::Cancelled)?;
            session.extend_while(segments, &mut |done, all| link.progress(done, all))
        })?;
        let extended = done.or_raise()?;
        let (entered, left_out) = extended
            .segments
            .iter()
            .fold((0, 0), |(entered, left_out), each| (entered + each.entered, left_out + each.left_out));
        let out = PyDict::new(py);
        out.set_item("segments", extended.segments.len())?;
        out.set_item("entered", entered)?;
        out.set_item("left_out", left_out)?;
        out.set_item("made_room", extended.room.len())?;
        Ok(out)
    }

    fn look(&self, py: Python<'_>) -> Snapshot {
        Snapshot { inner: self.glance(py, WorkerSession::snapshot), usual: self.usual.clone() }
    }
}

#[pymethods]
impl Session {
    /// Appends segments: a text, a (source, text) pair, a dictionary of source, text and name, or a list of such. Sources: finding,
    /// reasoning, tool, artifact, code, reply, request. `progress` hears (tokens read, tokens to read) and calls the rest off by returning
    /// False; True shows a bar. Returns how many tokens entered and were left out. On any error nothing is appended; what is raised
    /// behind the last pass, by Ctrl-C or by a listener, finds all of it appended.
    #[pyo3(signature = (segments, source = "finding", *, name = None, progress = None))]
    fn extend<'py>(
        &self,
        py: Python<'py>,
        segments: &Bound<'py, PyAny>,
        source: &str,
        name: Option<&str>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.extended(py, segments_of(segments, source, name)?, progress.as_ref())
    }

    /// Appends the messages of a recorded log: a list of them, or an object with one.
    #[pyo3(signature = (messages, *, progress = None))]
    fn extend_messages<'py>(
        &self,
        py: Python<'py>,
        messages: &Bound<'py, PyAny>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let json = settings::json_of(messages)?;
        let value: serde_json::Value = serde_json::from_str(&json)
            .map_err(|error| errors::config("messages", format!("messages: {error}")))?;
        let log = Trajectory::from_messages(&value);
        let log = log.map_err(|fault| errors::config("messages", format!("messages: {fault}")))?;
        self.extended(py, log.into_iter().collect(), progress.as_ref())
    }

    /// Appends the messages of a file with a recorded log.
    #[pyo3(signature = (path, *, progress = None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        path: std::path::PathBuf,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let log = py.detach(|| Trajectory::read(&path)).or_raise()?;
        self.extended(py, log.into_iter().collect(), progress.as_ref())
    }

    /// Keeps a note for the handoff "notes"; a later one of the same key replaces it.
    #[pyo3(signature = (text, *, key = None))]
    fn note(&self, py: Python<'_>, text: String, key: Option<&str>) -> PyResult<()> {
        glanced(py, &self.inner).note(key, text).or_raise()
    }

    /// Cuts a briefing for a task: the full cache, compacted. Settings: one budget of keep (a ratio as float, positions as int), tau,
    /// error, coverage; select, score, heads, floor, spans, fade, fold, threshold, rank, fit, bits, queries, echo, draft, over, first,
    /// check, earlier, chunks, pieces, state; or config, a dictionary that says everything.
    #[pyo3(signature = (task, *, slice = None, timeout = None, **settings))]
    fn brief(
        &self,
        py: Python<'_>,
        task: &str,
        slice: Option<&str>,
        timeout: Option<f64>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Briefing> {
        self.look(py).brief(py, task, slice, timeout, settings)
    }

    /// Asks the worker. How the trajectory reaches it: `over` a Briefing that is there, or `via` a handoff ("full-kv",
    /// "latent-briefing:keep=0.1", "bm25:0.1", a dictionary), or else a briefing by the settings that are given, keep=0.1 and
    /// so on. `slice` is text that this call alone sees. `on_text` hears the answer as it comes and ends it by returning False.
    /// max_new_tokens, temperature, top_p, top_k, seed and stop_tokens say how it is written. Raises TimedOut after `timeout` seconds.
    #[pyo3(signature = (task, *, over = None, via = None, slice = None, on_text = None, timeout = None, **settings))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn ask(
        &self,
        py: Python<'_>,
        task: &str,
        over: Option<&Bound<'_, Briefing>>,
        via: Option<&Bound<'_, PyAny>>,
        slice: Option<&str>,
        on_text: Option<Bound<'_, PyAny>>,
        timeout: Option<f64>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Answer> {
        let asking = Asking::of(over, via, timeout, settings, self.usual.clone())?;
        let task = task_of(task, slice);
        let listeners = Listeners { text: on_text.as_ref(), ..Listeners::default() };
        let done = drive(py, &listeners, |link| {
            let mut session = locked(&self.inner, link).ok_or(Error::Cancelled)?;
            let outcome = asking.one(session.ask(task), link)?;
            Ok::<_, Error>((outcome, session.worker().clone()))
        })?;
        let (outcome, worker) = done.or_raise()?;
        answer_of(py, outcome, &worker)
    }

    /// Asks several tasks together, in as few passes as can be; `on_text` hears (number of the task, text).
    #[pyo3(signature = (tasks, *, via = None, on_text = None, timeout = None, **settings))]
    fn ask_all(
        &self,
        py: Python<'_>,
        tasks: Vec<String>,
        via: Option<&Bound<'_, PyAny>>,
        on_text: Option<Bound<'_, PyAny>>,
        timeout: Option<f64>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<Answer>> {
        let asking = Asking::of(None, via, timeout, settings, self.usual.clone())?;
        let listeners = Listeners { text: on_text.as_ref(), numbered: true, ..Listeners::default() };
        let done = drive(py, &listeners, |link| {
            let mut session = locked(&self.inner, link).ok_or(Error::Cancelled)?;
            let outcomes = asking.all(session.ask_all(tasks), link)?;
            Ok::<_, Error>((outcomes, session.worker().clone()))
        })?;
        let (outcomes, worker) = done.or_raise()?;
        outcomes.into_iter().map(|outcome| answer_of(py, outcome, &worker)).collect()
    }

    /// The logarithm of the probability of each token of a given answer (text, or tokens), an Array `[tokens]` of float32: the answer
    /// is read as it stands behind what the worker is given. `over`, `via` and settings as for ask.
    #[pyo3(signature = (task, answer, *, over = None, via = None, slice = None, **settings))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn log_probabilities(
        &self,
        py: Python<'_>,
        task: &str,
        answer: &Bound<'_, PyAny>,
        over: Option<&Bound<'_, Briefing>>,
        via: Option<&Bound<'_, PyAny>>,
        slice: Option<&str>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Array> {
        self.look(py).log_probabilities(py, task, answer, over, via, slice, settings)
    }

    /// The tokens that a task is read as, behind the trajectory.
    fn task_tokens(&self, py: Python<'_>, task: &str) -> PyResult<Vec<u32>> {
        self.glance(py, |session| session.task_tokens(task)).or_raise()
    }

    /// What the worker has of the trajectory now.
    fn snapshot(&self, py: Python<'_>) -> Snapshot {
        self.look(py)
    }

    /// A session of its own that goes on from here; nothing is copied.
    fn fork(&self, py: Python<'_>) -> Self {
        Self::of(self.glance(py, WorkerSession::fork), self.usual.clone())
    }

    /// Writes cache, trajectory and notes to a file; Worker.load_session reads it.
    fn save(&self, py: Python<'_>, path: std::path::PathBuf) -> PyResult<()> {
        let session = self.fork(py);
        py.detach(|| session.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner).save(path))
            .or_raise()
    }

    /// Positions in the full cache.
    #[getter]
    fn seq_len(&self, py: Python<'_>) -> usize {
        self.glance(py, WorkerSession::seq_len)
    }

    #[getter]
    fn head_len(&self, py: Python<'_>) -> usize {
        self.glance(py, WorkerSession::head_len)
    }

    #[getter]
    fn tokens(&self, py: Python<'_>) -> Vec<u32> {
        self.glance(py, |session| session.tokens().to_vec())
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> usize {
        self.glance(py, |session| session.cache().bytes())
    }

    /// Source, text and name of each segment.
    #[getter]
    fn segments(&self, py: Python<'_>) -> Vec<(String, String, Option<String>)> {
        let told =
            |segment: &Segment| (segment.source.tag().to_owned(), segment.text.clone(), segment.name.clone());
        self.glance(py, |session| session.trajectory().segments().iter().map(told).collect())
    }

    /// What the calls cost so far: their number, tokens and times.
    #[getter]
    fn ledger<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let sum = self.glance(py, |session| session.ledger().sum());
        settings::from_json(py, &sum)
    }

    #[getter]
    fn warnings(&self, py: Python<'_>) -> Vec<String> {
        self.glance(py, |session| {
            session.worker().session_warnings().iter().map(ToString::to_string).collect()
        })
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.glance(py, |session| session.trajectory().len())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.glance(py, |session| {
            let (segments, positions) = (session.trajectory().len(), session.seq_len());
            format!("Session({:?}, {segments} segments, {positions} positions)", session.worker().name())
        })
    }

    fn __reduce_ex__(&self, _protocol: usize) -> PyResult<()> {
        refuse_copy(
            "a Session holds a model's cache; write it with save(path) and read it with worker.load_session(path), or \
             go on from it with fork()",
        )
    }
}

#[pymethods]
impl Snapshot {
    /// Cuts a briefing for a task: the full cache, compacted. Settings: one budget of keep (a ratio as float, positions as int), tau,
    /// error, coverage; select, score, heads, floor, spans, fade, fold, threshold, rank, fit, bits, queries, echo, draft, over, first,
    /// check, earlier, chunks, pieces, state; or config, a dictionary that says everything.
    #[pyo3(signature = (task, *, slice = None, timeout = None, **settings))]
    fn brief(
        &self,
        py: Python<'_>,
        task: &str,
        slice: Option<&str>,
        timeout: Option<f64>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Briefing> {
        let config = settings::briefing(settings)?;
        let asking = Asking {
            over: None,
            handoff: Handoff::briefing(config),
            timeout: timeout
                .map(Duration::try_from_secs_f64)
                .transpose()
                .map_err(|error| errors::config("timeout", format!("timeout: {error}")))?,
            generate: None,
        };
        let task = task_of(task, slice);
        let done = drive(py, &Listeners::default(), |link| asking.put(self.inner.ask(task), link).prepare())?;
        let briefing = done.or_raise()?.briefing;
        let briefing = briefing.ok_or_else(|| errors::session_error("this handoff makes no briefing"))?;
        Ok(Briefing { inner: Arc::new(briefing), worker: self.inner.worker().clone() })
    }

    /// Asks the worker. How the trajectory reaches it: `over` a Briefing that is there, or `via` a handoff ("full-kv",
    /// "latent-briefing:keep=0.1", "bm25:0.1", a dictionary), or else a briefing by the settings that are given, keep=0.1 and
    /// so on. `slice` is text that this call alone sees. `on_text` hears the answer as it comes and ends it by returning False.
    /// max_new_tokens, temperature, top_p, top_k, seed and stop_tokens say how it is written. Raises TimedOut after `timeout` seconds.
    #[pyo3(signature = (task, *, over = None, via = None, slice = None, on_text = None, timeout = None, **settings))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn ask(
        &self,
        py: Python<'_>,
        task: &str,
        over: Option<&Bound<'_, Briefing>>,
        via: Option<&Bound<'_, PyAny>>,
        slice: Option<&str>,
        on_text: Option<Bound<'_, PyAny>>,
        timeout: Option<f64>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Answer> {
        let asking = Asking::of(over, via, timeout, settings, self.usual.clone())?;
        let task = task_of(task, slice);
        let listeners = Listeners { text: on_text.as_ref(), ..Listeners::default() };
        let outcome = drive(py, &listeners, |link| asking.one(self.inner.ask(task), link))?;
        answer_of(py, outcome.or_raise()?, self.inner.worker())
    }

    /// Asks several tasks together, in as few passes as can be; `on_text` hears (number of the task, text).
    #[pyo3(signature = (tasks, *, via = None, on_text = None, timeout = None, **settings))]
    fn ask_all(
        &self,
        py: Python<'_>,
        tasks: Vec<String>,
        via: Option<&Bound<'_, PyAny>>,
        on_text: Option<Bound<'_, PyAny>>,
        timeout: Option<f64>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<Answer>> {
        let asking = Asking::of(None, via, timeout, settings, self.usual.clone())?;
        let listeners = Listeners { text: on_text.as_ref(), numbered: true, ..Listeners::default() };
        let outcomes = drive(py, &listeners, |link| asking.all(self.inner.ask_all(tasks), link))?;
        outcomes.or_raise()?.into_iter().map(|outcome| answer_of(py, outcome, self.inner.worker())).collect()
    }

    /// The logarithm of the probability of each token of a given answer (text, or tokens), an Array `[tokens]` of float32: the answer
    /// is read as it stands behind what the worker is given. `over`, `via` and settings as for ask.
    #[pyo3(signature = (task, answer, *, over = None, via = None, slice = None, **settings))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn log_probabilities(
        &self,
        py: Python<'_>,
        task: &str,
        answer: &Bound<'_, PyAny>,
        over: Option<&Bound<'_, Briefing>>,
        via: Option<&Bound<'_, PyAny>>,
        slice: Option<&str>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Array> {
        let asking = Asking::of(over, via, None, settings, self.usual.clone())?;
        let tokens = match answer.extract::<String>() {
            Ok(text) => self.inner.worker().tokenizer().encode_text(&text).or_raise()?,
            Err(_) => answer.extract::<Vec<u32>>()?,
        };
        let vocab = self.inner.worker().config().vocab_size;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(errors::config("answer", format!("answer: the worker has no token {token}")));
        }
        let task = task_of(task, slice);
        let done = drive(py, &Listeners::default(), |link| {
            let mut ask = asking.put(self.inner.ask(task), link);
            if let Some(briefing) = &asking.over {
                ask = ask.over(briefing);
            }
            log_probabilities(&ask.forced(&tokens)?.logits, &tokens)
        })?;
        let found = done.or_raise()?;
        let count = found.len();
        Ok(Array::f32(found, &[count]))
    }

    /// The tokens that a task is read as, behind the trajectory.
    fn task_tokens(&self, task: &str) -> PyResult<Vec<u32>> {
        self.inner.task_tokens(task).or_raise()
    }

    #[getter]
    fn seq_len(&self) -> usize {
        self.inner.seq_len()
    }

    #[getter]
    fn tokens(&self) -> Vec<u32> {
        self.inner.tokens().to_vec()
    }

    /// Dictionaries of keys and values, `[kv_heads, slots, head_dim]`, of every layer, and bias where it has one, as Arrays.
    fn layers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let layers = py.detach(|| self.inner.cache().layers()).or_raise()?;
        let out = PyList::empty(py);
        for layer in layers {
            let one = PyDict::new(py);
            one.set_item("keys", Py::new(py, crate::tensors::array(&layer.keys).or_raise()?)?)?;
            one.set_item("values", Py::new(py, crate::tensors::array(&layer.values).or_raise()?)?)?;
            if let Some(bias) = &layer.bias {
                one.set_item("bias", Py::new(py, crate::tensors::array(bias).or_raise()?)?)?;
            }
            one.set_item("scale", layer.scale)?;
            out.append(one)?;
        }
        Ok(out)
    }

    fn __repr__(&self) -> String {
        format!("Snapshot({:?}, {} positions)", self.inner.worker().name(), self.inner.seq_len())
    }

    fn __reduce_ex__(&self, _protocol: usize) -> PyResult<()> {
        refuse_copy("a Snapshot shares a session's cache; write the session with save(path)")
    }
}
