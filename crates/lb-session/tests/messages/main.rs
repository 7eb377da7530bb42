//! Compressed messages in the trajectory's place, on the built-in worker.

mod costs;
mod lingua;
mod pruned;
mod sentences;
mod squeeze;

use std::path::Path;

use lb_session::{Handoff, OpenSession, Segment, WorkerSession};
use lb_testkit::embedded;
use lb_testkit::naive_model::NaiveModel;

const TASK: &str = "What is the code of the Oslund relay?";

/// Differences in nats that the order of summation and a cache in 16 bits may make.
const NATS: f64 = 0.05;

fn lines() -> Vec<Segment> {
    vec![
        Segment::finding("The Velmar ledger is kept by Anara."),
        Segment::tool("Grep the Oslund relay: no match in part 2. It was looked for twice."),
        Segment::finding("The code of the Oslund relay is 4821."),
        Segment::reasoning("Perhaps the Velmar ledger is kept by Tolio. Nobody has said so."),
        Segment::finding("Correction: the code of the Oslund relay is 5521, not 4821."),
        Segment::finding("The Torwick vault is stored in Coldhaven."),
        Segment::artifact("Table 1: two items, one code."),
        Segment::finding("Anara works in Redmoor. She has been there since May."),
    ]
}

fn session_of(segments: impl IntoIterator<Item = Segment>) -> WorkerSession {
    let mut session = embedded().session().unwrap();
    session.extend_all(segments, &mut |_, _| {}).unwrap();
    session
}

fn head_len() -> usize {
    embedded().session().unwrap().seq_len()
}

/// The tokens that are read in the trajectory's place.
fn message(session: &mut WorkerSession, handoff: &str, task: &str) -> Vec<u32> {
    let handoff: Handoff = handoff.parse().unwrap();
    let prepared = session.ask(task).via(handoff).prepare().unwrap();
    assert!(prepared.cache.is_empty());
    assert_eq!(prepared.prompt.len(), prepared.kept_len + session.task_tokens(task).unwrap().len());
    prepared.prompt[..prepared.kept_len].to_vec()
}

fn text(tokens: &[u32]) -> String {
    embedded().tokenizer().decode(tokens).unwrap()
}

/// The built-in worker in f64.
fn naive() -> NaiveModel {
    NaiveModel::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../lb-model/assets/worker"))
}

/// -ln p of each of `tokens` behind `before`, in f64, by plain loops.
fn nats(model: &NaiveModel, before: &[u32], tokens: &[u32]) -> Vec<f64> {
    let mut cache = model.empty_cache();
    let mut logits = model.read(before, &mut cache).logits;
    let mut nats = Vec::new();
    for token in tokens {
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - max).exp()).sum();
        nats.push(max + sum.ln() - logits[*token as usize]);
        logits = model.step(*token, &mut cache).logits;
    }
    nats
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Whether `part` is what is left of `whole` when tokens are left out.
fn is_left_of(part: &[u32], whole: &[u32]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|token| whole.any(|other| other == token))
}
