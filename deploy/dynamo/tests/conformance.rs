//! Dynamo's own kit for backends, and what it does not ask.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use dynamo_backend_common::testing::{mock_context, run_conformance};
use dynamo_backend_common::{
    DynamoError, ErrorType, FinishReason, GenerateContext, LLMEngine, LLMEngineOutput, OutputOptions,
    PreprocessedRequest, SamplingOptions, StopConditions,
};
use futures::StreamExt;
use lb_dynamo::{Args, Backend};
use lb_model::Worker;

fn backend(more: &[&str]) -> Backend {
    let args = ["latent-briefing-dynamo"].into_iter().chain(more.iter().copied());
    Backend::new(Args::parse_from(args)).0
}

fn request(tokens: Vec<u32>, most: u32) -> PreprocessedRequest {
    let stop = StopConditions { max_tokens: Some(most), ignore_eos: Some(true), ..StopConditions::default() };
    PreprocessedRequest::builder()
        .model("latent-briefing".to_owned())
        .token_ids(tokens)
        .stop_conditions(stop)
        .sampling_options(SamplingOptions::default())
        .output_options(OutputOptions::default())
        .build()
        .unwrap()
}

async fn whole(backend: &Backend, request: PreprocessedRequest) -> Result<Vec<LLMEngineOutput>, DynamoError> {
    let stream = backend.generate(request, GenerateContext::new(mock_context(), None)).await?;
    stream.collect::<Vec<_>>().await.into_iter().collect()
}

fn tokens_of(chunks: &[LLMEngineOutput]) -> Vec<u32> {
    chunks.iter().flat_map(|chunk| chunk.token_ids.clone()).collect()
}

#[tokio::test]
async fn it_passes_dynamos_kit() {
    run_conformance(|| backend(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_dynamos_kit_on_threads() {
    run_conformance(|| backend(&["--parallel", "3"])).await.unwrap();
}

/// A trajectory that another process made, by way of HTTP; and what that one answers.
fn made(store: &Path, question: &str) -> (String, u64) {
    let mut config = lb_serve::ServeConfig::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.store = Some(store.display().to_string());
    let server = lb_serve::Server::start(&Worker::embedded().unwrap(), config).unwrap();
    let post = |path: &str, body: &serde_json::Value| {
        let url = format!("http://{}{path}", server.address());
        let mut told =
            ureq::post(url).header("content-type", "application/json").send(body.to_string()).unwrap();
        serde_json::from_str::<serde_json::Value>(&told.body_mut().read_to_string().unwrap()).unwrap()
    };
    let segments: Vec<_> = ["Oslo", "Turin", "Lima"]
        .iter()
        .zip(["Ana", "Bo", "Cleo"])
        .map(|(town, name)| serde_json::json!({ "source": "finding", "text": format!("The {town} ledger is kept by {name}.") }))
        .collect();
    post("/v1/trajectories", &serde_json::json!({ "id": "t", "segments": segments }));
    let briefing = serde_json::json!({ "trajectory": "t", "handoff": "latent-briefing:keep=0.5" });
    let asked = serde_json::json!({ "messages": [{ "role": "user", "content": question }], "briefing": briefing, "max_tokens": 16, "ignore_eos": true });
    let told = post("/v1/chat/completions", &asked);
    let text = told["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    (text, told["usage"]["completion_tokens"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trajectory_of_the_store_is_answered_about_and_a_moved_answer_is_gone_on_with() {
    let store = tempfile::tempdir().unwrap();
    let question = "Who keeps the Turin ledger?";
    let (folder, asked) = (store.path().to_owned(), question.to_owned());
    let (text, generated) = tokio::task::spawn_blocking(move || made(&folder, &asked)).await.unwrap();
    let backend = backend(&["--store", store.path().to_str().unwrap()]);
    backend.start(0).await.unwrap();
    let worker = Worker::embedded().unwrap();
    let said = serde_json::json!({
        "briefing": { "trajectory": "t", "handoff": "latent-briefing:keep=0.5" },
        "messages": [{ "role": "user", "content": question }],
    });
    let prompt = worker.tokenizer().encode_prompt(&format!("latent-briefing request: {said}")).unwrap();
    let chunks = whole(&backend, request(prompt.clone(), 16)).await.unwrap();
    let tokens = tokens_of(&chunks);
    let ends = worker.tokenizer().eos_ids();
    let shown: Vec<u32> = tokens.iter().copied().filter(|token| !ends.contains(token)).collect();
    assert_eq!((worker.tokenizer().decode(&shown).unwrap(), tokens.len() as u64), (text, generated));
    let end = chunks.last().unwrap();
    assert_eq!(end.finish_reason, Some(FinishReason::Length));
    let data = &end.engine_data.as_ref().unwrap()["latent_briefing"];
    assert_eq!(data["handoff"], "latent-briefing");
    assert!(data["kept"].as_u64() < data["seq_len"].as_u64());
    // As a front end asks again whose worker was lost after five tokens.
    let moved = [prompt, tokens[..5].to_vec()].concat();
    assert_eq!(tokens_of(&whole(&backend, request(moved, 11)).await.unwrap()), tokens[5..]);
    let absent = serde_json::json!({ "briefing": { "trajectory": "u" }, "messages": said["messages"] });
    let prompt = worker.tokenizer().encode_prompt(&format!("latent-briefing request: {absent}")).unwrap();
    // As an item of the stream, so that the front end does not take the worker for lost.
    let mut stream =
        backend.generate(request(prompt, 4), GenerateContext::new(mock_context(), None)).await.unwrap();
    let refused = stream.next().await.unwrap().unwrap_err();
    assert_eq!(refused.error_type(), ErrorType::NotFound);
    assert_eq!(refused.public_message(), Some("there is no trajectory \"u\""));
    assert!(stream.next().await.is_none());
    backend.cleanup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_ends_an_answer_that_nobody_asks() {
    let backend = backend(&[]);
    backend.start(0).await.unwrap();
    let ctx = mock_context();
    let stream = backend
        .generate(request(vec![1, 2, 3], 4000), GenerateContext::new(ctx.clone(), None))
        .await
        .unwrap();
    let mut stream = stream;
    assert!(stream.next().await.unwrap().unwrap().finish_reason.is_none());
    assert_eq!(backend.is_quiescent().await.unwrap(), Some(false));
    backend.abort(ctx).await;
    let rest: Vec<_> = stream.collect().await;
    assert!(rest.len() < 3999, "{}", rest.len());
    assert_eq!(rest.last().unwrap().as_ref().unwrap().finish_reason, Some(FinishReason::Cancelled));
    assert_eq!(backend.is_quiescent().await.unwrap(), Some(true));
    backend.cleanup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_finishes_what_is_under_way_and_then_refuses() {
    let backend = Arc::new(backend(&[]));
    backend.start(0).await.unwrap();
    let own = backend.clone();
    let running = tokio::spawn(async move { whole(&own, request(vec![1, 2, 3], 300)).await });
    while backend.is_quiescent().await.unwrap() == Some(true) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let cleaning = tokio::spawn({
        let backend = backend.clone();
        async move { backend.cleanup().await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let refused = whole(&backend, request(vec![1, 2, 3], 4)).await.unwrap_err();
    assert_eq!(
        refused.error_type(),
        ErrorType::Backend(dynamo_backend_common::BackendError::EngineShutdown),
        "{refused}"
    );
    assert_eq!(tokens_of(&running.await.unwrap().unwrap()).len(), 300);
    cleaning.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_model_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    let backend = backend(&["--worker", model.to_str().unwrap()]);
    let error = backend.start(0).await.unwrap_err();
    assert!(error.to_string().contains("model.gguf"), "{error}");
    backend.cleanup().await.unwrap();
}
