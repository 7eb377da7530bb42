//! Dynamo's trait for backends over a service.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dynamo_backend_common::{
    AsyncEngineContext, BackendError, DynamoError, EngineConfig, ErrorType, GenerateContext, LLMEngine,
    LLMEngineOutput, LlmRegistration, MetricsBindings, MetricsCtx, PreprocessedRequest, WorkerConfig,
};
use futures::stream::BoxStream;
use lb_model::Worker;
use lb_serve::{Answer, Heard, Refusal, Service, Tenant};
use lb_session::CancelToken;
use sha2::{Digest, Sha256};

use crate::request::{Asked, read};
use crate::{Args, card, reply};

/// Tokens of a block by which Dynamo's router tells which worker has read a prompt. Requests about one trajectory begin alike for about as
/// many.
const BLOCK: u32 = 16;

/// A worker as Dynamo drives it.
pub struct Backend {
    args: Args,
    card: PathBuf,
    /// From [`start`](LLMEngine::start) to [`cleanup`](LLMEngine::cleanup).
    service: Mutex<Option<Arc<Service>>>,
    /// What calls requests off, by their ids.
    under_way: Arc<Mutex<HashMap<String, CancelToken>>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(kind: ErrorType, error: impl std::fmt::Display) -> DynamoError {
    DynamoError::builder().error_type(kind).message(error.to_string()).build()
}

impl Backend {
    /// Before anything is loaded; with what Dynamo's worker is to be told.
    pub fn new(args: Args) -> (Self, WorkerConfig) {
        let card = args.card.clone().unwrap_or_else(|| card::folder(&args.served_model_name));
        let common = args.common.clone();
        let config = WorkerConfig {
            namespace: common.namespace,
            component: common.component,
            endpoint: common.endpoint,
            endpoint_types: common.endpoint_types,
            custom_jinja_template: common.custom_jinja_template,
            tool_call_parser: common.dyn_tool_call_parser,
            reasoning_parser: common.dyn_reasoning_parser,
            exclude_tools_when_tool_choice_none: common.exclude_tools_when_tool_choice_none,
            disaggregation_mode: common.disaggregation_mode,
            route_to_encoder: common.route_to_encoder,
            enable_rl: common.enable_rl,
            runtime: common.runtime,
            model_name: card.display().to_string(),
            served_model_name: Some(args.served_model_name.clone()),
            ..WorkerConfig::default()
        };
        let (service, under_way) = (Mutex::default(), Arc::default());
        (Self { args, card, service, under_way }, config)
    }

    /// The service that is started.
    fn service(&self) -> Result<Arc<Service>, DynamoError> {
        let none = || failed(ErrorType::Backend(BackendError::EngineShutdown), "the worker is not serving");
        held(&self.service).clone().ok_or_else(none)
    }

    /// Whose a plain prompt is: what was read for another salt is not shared.
    fn tenant_of(&self, request: &PreprocessedRequest) -> Tenant {
        let salt = request.routing.as_ref().and_then(|routing| routing.cache_namespace.as_ref());
        let salted = salt.and_then(|salt| {
            let digest = Sha256::new()
                .chain_update(self.args.tenant.name())
                .chain_update([0])
                .chain_update(salt)
                .finalize();
            let mut name = format!("salt-{digest:x}");
            // A tenant's name has 64 characters at most.
            name.truncate(64);
            Tenant::named(&name)
        });
        salted.unwrap_or_else(|| self.args.tenant.clone())
    }

    async fn asked(&self, request: PreprocessedRequest) -> Result<Answer, DynamoError> {
        let service = self.service()?;
        let (asked, manner) = read(&request, service.worker().tokenizer())?;
        let answer = match asked {
            Asked::Prompt(prompt) => service.complete(&self.tenant_of(&request), prompt, &manner),
            Asked::Briefed { briefing, messages } => {
                service.ask(&self.args.tenant, &briefing, messages, &manner).await
            }
        };
        answer.map_err(|refusal| reply::refused(&refusal))
    }
}

fn loaded(args: &Args, folder: &Path) -> anyhow::Result<Worker> {
    let worker = match &args.worker {
        Some(model) => Worker::load(model)?,
        None => Worker::embedded()?,
    };
    for warning in worker.warnings() {
        tracing::warn!("{warning}");
    }
    card::write(&worker, folder)?;
    Ok(worker)
}

/// Strikes a request off the list, however its stream ends.
struct Listed {
    id: String,
    under_way: Arc<Mutex<HashMap<String, CancelToken>>>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        held(&self.under_way).remove(&self.id);
    }
}

#[async_trait]
impl LLMEngine for Backend {
    async fn start(&self, _worker_id: u64) -> Result<EngineConfig, DynamoError> {
        let (args, folder) = (self.args.clone(), self.card.clone());
        let loaded = tokio::task::spawn_blocking(move || loaded(&args, &folder)).await;
        let loaded = loaded.map_err(|error| failed(ErrorType::Internal, error))?;
        let worker = loaded.map_err(|error| {
            failed(ErrorType::Backend(BackendError::InvalidArgument), format!("{error:#}"))
        })?;
        tracing::info!(worker = worker.name(), dtype = worker.dtype().as_str(), "loaded");
        let service = Service::start(&worker, self.args.serve_config()).await;
        let service =
            service.map_err(|error| failed(ErrorType::Backend(BackendError::InvalidArgument), error))?;
        *held(&self.service) = Some(Arc::new(service));
        let limit = u32::try_from(worker.config().position_limit()).unwrap_or(u32::MAX);
        let llm = LlmRegistration {
            context_length: Some(limit),
            kv_cache_block_size: Some(BLOCK),
            max_num_seqs: Some(self.args.parallel as u64),
            ..LlmRegistration::default()
        };
        Ok(EngineConfig {
            model: worker.name().to_owned(),
            served_model_name: Some(self.args.served_model_name.clone()),
            llm: Some(llm),
            ..EngineConfig::default()
        })
    }

    async fn generate(
        &self,
        request: PreprocessedRequest,
        ctx: GenerateContext,
    ) -> Result<BoxStream<'static, Result<LLMEngineOutput, DynamoError>>, DynamoError> {
        let mut answer = match self.asked(request).await {
            Ok(answer) => answer,
            // Not as an error before the stream: a front end takes that for a worker that is lost, and asks it nothing for seconds.
            Err(refused) => return Ok(Box::pin(futures::stream::iter([Err(refused)]))),
        };
        let listed = Listed { id: ctx.id().to_owned(), under_way: self.under_way.clone() };
        held(&self.under_way).insert(listed.id.clone(), answer.cancel_token());
        Ok(Box::pin(async_stream::stream! {
            let _listed = listed;
            let (mut cost, mut generated) = (None, 0);
            loop {
                let heard = tokio::select! {
                    biased;
                    () = ctx.stopped() => None,
                    heard = answer.next() => heard,
                };
                match heard {
                    Some(Ok(Heard::Begun(usage))) => cost = Some(usage),
                    Some(Ok(Heard::Token(written))) => {
                        generated += 1;
                        yield Ok(reply::token(written));
                    }
                    Some(Ok(Heard::Ended(finish))) => {
                        yield Ok(reply::end(&finish, cost.as_deref(), generated));
                        return;
                    }
                    Some(Ok(_)) => {}
                    None | Some(Err(Refusal::Cancelled)) => {
                        yield Ok(reply::cancelled());
                        return;
                    }
                    Some(Err(refusal)) => {
                        yield Err(reply::refused(&refusal));
                        return;
                    }
                }
            }
        }))
    }

    /// The engine leaves the answer with its next token, also where nobody asks its stream.
    async fn abort(&self, ctx: Arc<dyn AsyncEngineContext>) {
        if let Some(cancel) = held(&self.under_way).get(ctx.id()) {
            cancel.cancel();
        }
    }

    async fn is_quiescent(&self) -> Result<Option<bool>, DynamoError> {
        let service = held(&self.service).clone();
        Ok(Some(service.is_none_or(|service| service.under_way() == 0)))
    }

    /// Drains: nothing new is taken, what is under way is finished (`--drain`), the caches of long trajectories go to the store; then
    /// everything is released.
    async fn cleanup(&self) -> Result<(), DynamoError> {
        let service = held(&self.service).clone();
        if let Some(service) = service {
            service.end().await;
            // Until here a request hears that the worker ends.
            *held(&self.service) = None;
        }
        Ok(())
    }

    async fn setup_metrics(&self, ctx: MetricsCtx<'_>) -> Result<MetricsBindings, DynamoError> {
        let service = Arc::downgrade(&self.service()?);
        ctx.metrics.add_expfmt_callback(Arc::new(move || {
            let text = service.upgrade().map(|service| service.metrics()).unwrap_or_default();
            // The mark of OpenMetrics' end is the whole scrape's.
            Ok(text.replace("# EOF\n", ""))
        }));
        Ok(MetricsBindings::default())
    }
}
