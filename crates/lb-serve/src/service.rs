//! What answers, without HTTP: for a front end with a protocol of its own, which has made tokens of a request already.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lb_model::Worker;
use lb_session::CancelToken;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::engine::{Bounds, Engine, Event, Finish, Listening, Spoken, Told, Usage, Work};
use crate::house::{keep_house, store_sessions};
use crate::http::{App, about, lost, submit};
use crate::journal::Storage;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::trajectories::{Trajectories, now};
use crate::wire::briefing::{BriefingField, task};
use crate::wire::openai::conversation;
use crate::wire::sampling::{Room, Sampling, Texts};
use crate::{Refusal, Result, ServeConfig, Tenant};

/// The engine, the trajectories and the store of a server, without its HTTP: prompts come as tokens, and so do answers. They are
/// those that [`Server`](crate::Server) gives.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lb_model::Worker;
/// use lb_serve::{Heard, Manner, ServeConfig, Service, Tenant};
///
/// let worker = Worker::embedded()?;
/// let service = Service::start(&worker, ServeConfig::default()).await?;
/// let prompt = worker.tokenizer().encode_prompt("The ledger of Oslo")?;
/// let mut manner = Manner::default();
/// manner.max_tokens = Some(4);
/// let mut answer = service.complete(&Tenant::local(), prompt, &manner)?;
/// let mut tokens = Vec::new();
/// while let Some(heard) = answer.next().await {
///     if let Heard::Token(token) = heard? {
///         tokens.push(token.id);
///     }
/// }
/// assert_eq!(tokens.len(), 4);
/// service.end().await;
/// # Ok(())
/// # }
/// ```
pub struct Service {
    pub(crate) app: Arc<App>,
    /// Answers that somebody listens to.
    under_way: Arc<watch::Sender<usize>>,
    house: tokio::task::JoinHandle<()>,
    engine: Mutex<Option<JoinHandle<()>>>,
    /// Of what is not in memory; goes with the service.
    _folder: tempfile::TempDir,
}

/// How an answer is to be written. What is `None` is as the server has it: greedy, at most
/// [`ServeConfig::max_tokens`] tokens.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Manner {
    /// Tokens at most; 1 at least.
    pub max_tokens: Option<usize>,
    /// Below 0.0001 it is greedy.
    pub temperature: Option<f64>,
    /// Above 0, at most 1.
    pub top_p: Option<f64>,
    /// 0 is no bound.
    pub top_k: Option<usize>,
    /// Same seed, same answer; drawn by lot where it is missing.
    pub seed: Option<i64>,
    /// Texts that end the answer, 16 at most. Their tokens are told; whoever shows text cuts it there.
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides the model's own; they are not told.
    pub stop_tokens: Vec<u32>,
    /// Go on where the model would end.
    pub ignores_end: bool,
    /// Log-probabilities of each token and of so many of the likeliest, 20 at most.
    pub log_probs: Option<usize>,
    /// What of an answer about a trajectory another worker has written: it is gone on with. A prompt has its own at its end.
    pub written: Vec<u32>,
}

/// What is heard of an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Heard {
    /// Everything before it is read; what that cost.
    Begun(Box<Usage>),
    /// A token was written.
    Token(Written),
    /// It has ended, and nothing follows.
    Ended(Finish),
}

/// A token of an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Written {
    /// Its number.
    pub id: u32,
    /// The natural logarithm of its probability, where it was asked for.
    pub log_prob: Option<f32>,
    /// The likeliest tokens in its place, likeliest first: number, text, log-probability.
    pub likeliest: Vec<(u32, String, f32)>,
}

/// An answer under way. Whoever drops it calls it off.
pub struct Answer {
    listening: Listening,
    cancel: CancelToken,
    over: bool,
    _counted: Counted,
}

/// One of those under way.
struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(under_way: &Arc<watch::Sender<usize>>) -> Self {
        under_way.send_modify(|count| *count += 1);
        Self(under_way.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Answer {
    /// What is heard next; `None` behind the end. A refusal is the end.
    pub async fn next(&mut self) -> Option<std::result::Result<Heard, Refusal>> {
        while !self.over {
            let heard = match self.listening.events.recv().await {
                Some(Event::Begun(usage)) => Ok(Heard::Begun(usage)),
                Some(Event::Text { tokens, ids, .. }) => match ids.first() {
                    Some(&id) => Ok(Heard::Token(written(id, tokens))),
                    // Text that waited for the rest of a stop; its tokens are told.
                    None => continue,
                },
                Some(Event::Ended { finish, .. }) => Ok(Heard::Ended(finish)),
                Some(Event::Refused(refusal)) => Err(refusal),
                Some(Event::Done { .. } | Event::Made(_)) | None => Err(lost()),
            };
            self.over = !matches!(heard, Ok(Heard::Begun(_) | Heard::Token(_)));
            return Some(heard);
        }
        None
    }

    /// What calls it off from elsewhere: it ends with [`Refusal::Cancelled`].
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }
}

fn written(id: u32, told: Vec<Told>) -> Written {
    let told = told.into_iter().next();
    let log_prob = told.as_ref().map(|told| told.log_prob);
    let likeliest = told.into_iter().flat_map(|told| told.likeliest);
    let likeliest = likeliest.map(|(piece, log_prob)| (piece.id, piece.text, log_prob)).collect();
    Written { id, log_prob, likeliest }
}

impl Service {
    /// Begins, within a runtime of tokio. Of `config`, what concerns HTTP is without effect.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for what is out of range, [`Error::Store`](crate::Error::Store),
    /// [`Error::Io`](crate::Error::Io).
    pub async fn start(worker: &Worker, config: ServeConfig) -> Result<Self> {
        let config = ServeConfig { keys: None, listen: ServeConfig::default().listen, ..config };
        config.validate()?;
        Self::with_keys(worker, config, None).await
    }

    /// The same for a server with keys; `config` is checked.
    pub(crate) async fn with_keys(worker: &Worker, config: ServeConfig, keys: Option<Keys>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("latent-briefing-").tempdir()?;
        let storage = match &config.store {
            Some(address) => Some(Storage::open(address, config.index.as_deref(), worker).await?),
            None => None,
        };
        let metrics = Arc::new(Metrics::new());
        let bounds = Bounds {
            parallel: config.parallel,
            waiting: config.queue,
            // One tenant leaves room for the others.
            of_one: if keys.is_some() { config.queue.div_ceil(2) } else { config.queue },
            prefix_bytes: config.prefixes,
        };
        let (engine, thread) = Engine::start(worker.clone(), bounds, metrics.clone())?;
        let app = Arc::new(App {
            worker: worker.clone(),
            engine,
            trajectories: trajectories(folder.path(), &config, storage.is_none()),
            keys,
            metrics,
            config,
            draining: AtomicBool::new(false),
            storage,
            folder: folder.path().to_owned(),
            begun: now(),
        });
        let house = tokio::spawn(keep_house(app.clone()));
        let (under_way, _) = watch::channel(0);
        let (under_way, engine) = (Arc::new(under_way), Mutex::new(Some(thread)));
        Ok(Self { app, under_way, house, engine, _folder: folder })
    }

    /// Goes on with a prompt; what it begins with is not read again where this tenant's earlier prompts begin alike.
    ///
    /// # Errors
    /// [`Refusal::Field`] for what is out of range, [`Refusal::Busy`], [`Refusal::Draining`]. What is found later is heard.
    pub fn complete(
        &self,
        tenant: &Tenant,
        prompt: Vec<u32>,
        manner: &Manner,
    ) -> std::result::Result<Answer, Refusal> {
        let limit = self.app.worker.config().position_limit();
        if prompt.len() > limit {
            return Err(Refusal::TooLong(format!("{} tokens are more than {limit}", prompt.len())));
        }
        if !manner.written.is_empty() {
            return Err(Refusal::field("written", "a prompt has at its end what is written"));
        }
        let spoken = self.spoken(manner)?;
        self.submit(tenant, Work::Complete { prompt, spoken })
    }

    /// Answers about a trajectory or over a stored briefing: `briefing` and `messages` are the JSON of these fields of a chat
    /// completion, and mean the same.
    ///
    /// # Errors
    /// As [`complete`](Self::complete); also [`Refusal::Absent`] for a trajectory that neither this service nor its store knows, and
    /// [`Refusal::Store`].
    pub async fn ask(
        &self,
        tenant: &Tenant,
        briefing: &Value,
        messages: Value,
        manner: &Manner,
    ) -> std::result::Result<Answer, Refusal> {
        self.takes()?;
        let field = serde_path_to_error::deserialize::<_, BriefingField>(briefing);
        let field = field.map_err(|error| match error.path().to_string().as_str() {
            "." => Refusal::field("briefing", error.inner()),
            path => Refusal::field(format!("briefing.{path}"), error.inner()),
        })?;
        let conversation = conversation(Map::from_iter([("messages".to_owned(), messages)]))?;
        let (task, spoken) = (task(&conversation.messages)?, self.spoken(manner)?);
        let work = about(&self.app, tenant, &field, task, spoken).await?;
        self.submit(tenant, work)
    }

    fn spoken(&self, manner: &Manner) -> std::result::Result<Spoken, Refusal> {
        let sampling = Sampling {
            max_tokens: manner.max_tokens,
            temperature: manner.temperature,
            top_p: manner.top_p,
            top_k: manner.top_k,
            seed: manner.seed,
            stop: Some(Texts::Many(manner.stop.clone())),
            ignore_eos: Some(manner.ignores_end),
            ..Sampling::default()
        };
        let room = Room { usual: self.app.config.max_tokens };
        let mut spoken = sampling.spoken(&self.app.worker, room, manner.log_probs)?;
        spoken.options.stop_tokens.clone_from(&manner.stop_tokens);
        (spoken.by_number, spoken.written) = (true, manner.written.clone());
        Ok(spoken)
    }

    fn takes(&self) -> std::result::Result<(), Refusal> {
        if self.app.draining.load(Ordering::SeqCst) { Err(Refusal::Draining) } else { Ok(()) }
    }

    fn submit(&self, tenant: &Tenant, work: Work) -> std::result::Result<Answer, Refusal> {
        // Counted before the look: who drains sees either the count or nobody who comes behind it.
        let counted = Counted::new(&self.under_way);
        self.takes()?;
        let listening = submit(&self.app, tenant, work)?;
        let cancel = listening.cancel_token();
        Ok(Answer { listening, cancel, over: false, _counted: counted })
    }

    /// The worker that answers.
    pub fn worker(&self) -> &Worker {
        &self.app.worker
    }

    /// What it counts, in Prometheus' text format (OpenMetrics).
    pub fn metrics(&self) -> String {
        self.app.metrics.text()
    }

    /// Answers under way and such as wait.
    pub fn under_way(&self) -> usize {
        *self.under_way.borrow()
    }

    /// Takes nothing more; what waits and what is under way is still answered.
    pub fn drain(&self) {
        self.app.draining.store(true, Ordering::SeqCst);
    }

    /// Ends in good order: nothing new is taken, what is under way has [`ServeConfig::drain_time`], and then the caches of long
    /// trajectories go to the store, at most as long again. A second call does nothing more.
    pub async fn end(&self) {
        self.drain();
        let time = self.app.config.drain_time;
        let mut under_way = self.under_way.subscribe();
        let _ = tokio::time::timeout(time, under_way.wait_for(|count| *count == 0)).await;
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(engine) = engine else { return };
        // What is not done by now has had its time: the caches of trajectories come first.
        self.app.engine.abandon();
        let _ = tokio::time::timeout(time, store_sessions(&self.app)).await;
        self.house.abort();
        self.app.engine.drain();
        let _ = tokio::task::spawn_blocking(move || engine.join()).await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.house.abort();
        self.app.engine.abandon();
        self.app.engine.drain();
    }
}

fn trajectories(folder: &Path, config: &ServeConfig, alone: bool) -> Arc<Trajectories> {
    Arc::new(Trajectories::new(folder, config.memory, config.trajectories, alone))
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("over", &self.over).finish_non_exhaustive()
    }
}
