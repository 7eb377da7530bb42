//! The worker alone, without a loop: LongBench v2's own protocol.

use std::time::Instant;

use lb_model::{GenerateOptions, Message, PrefillOptions, RenderOptions};
use lb_session::{CallTokens, Handoff, Task, WorkerSession};

use super::letters::letters;
use super::{Bench, BenchPlan, Scoring};
use crate::answers::AnswerRow;
use crate::datasets::Item;
use crate::pipeline::mixed;
use crate::prompts::{self, Variant, truncate};
use crate::{Error, Result};

/// Positions that are left free: text that is cut and read again may become a few tokens longer.
const SLACK: usize = 16;

/// Fills `row`; the answer is returned.
pub(super) fn direct(bench: &Bench, plan: &BenchPlan, item: &Item, row: &mut AnswerRow) -> Result<String> {
    match plan.scoring {
        Scoring::Official => official(bench, plan, item, row),
        Scoring::ChoiceText => in_words(bench, plan, item, row),
    }
}

/// Tokens of a prompt of which `taken` are spoken for.
fn room(bench: &Bench, plan: &BenchPlan, taken: usize) -> Result<usize> {
    let limit = bench.worker.config().position_limit();
    let room = limit.saturating_sub(taken + plan.answer_tokens + SLACK);
    if room == 0 {
        return Err(Error::config("answer_tokens", plan.answer_tokens, "want room for a prompt"));
    }
    Ok(plan.direct_tokens.map_or(room, |most| most.min(room)))
}

fn official(bench: &Bench, plan: &BenchPlan, item: &Item, row: &mut AnswerRow) -> Result<String> {
    let worker = &bench.worker;
    let render = RenderOptions::default();
    let empty = worker.encode_conversation(&[Message::new("user", "")], &render)?.len();
    let prompt = prompts::prompt(item, Variant::ZeroShot);
    let cut = truncate(&prompt, room(bench, plan, empty)?, worker.tokenizer())?;
    let tokens = worker.encode_conversation(&[Message::new("user", cut.text)], &render)?;
    let options = GenerateOptions {
        temperature: Some(prompts::TEMPERATURE),
        seed: mixed(plan.seed ^ row.cluster).wrapping_add(row.repeat as u64),
        ..GenerateOptions::greedy(plan.answer_tokens)
    };
    let mut cache = worker.model().new_cache();
    let begun = Instant::now();
    let logits = worker.model().prefill(&tokens, &mut cache, &PrefillOptions::default(), &mut |_, _| {})?;
    row.prefill_s = begun.elapsed().as_secs_f64();
    if let Some(letters) = letters(item, plan.scoring) {
        row.letters = letters.over(worker, &cache)?;
    }
    let made = worker.generate_from_logits(&mut cache, &logits, &options, &mut |_, _| true)?;
    row.calls = 1;
    row.seq_len = tokens.len();
    row.worker = CallTokens {
        attended: tokens.len(),
        prefilled: tokens.len(),
        generated: made.tokens.len(),
        ..CallTokens::default()
    };
    row.keep_ratio = Some(1.0 - cut.removed as f64 / cut.tokens.max(1) as f64);
    row.decode_s = made.decode.as_secs_f64();
    Ok(made.text)
}

/// The document and the question in the worker's own form, greedy.
fn in_words(bench: &Bench, plan: &BenchPlan, item: &Item, row: &mut AnswerRow) -> Result<String> {
    let mut config = bench.config.session.clone();
    config.generate = GenerateOptions::greedy(plan.answer_tokens);
    let mut session = WorkerSession::with(&bench.worker, config)?;
    let question = plan.scoring.question(item);
    let tokenizer = bench.worker.tokenizer();
    // The form around the question is as long as the head at most.
    let taken = 2 * session.head_len() + tokenizer.encode_text(&question)?.len() + SLACK;
    let cut = truncate(&item.context, room(bench, plan, taken)?, tokenizer)?;
    let done = session.ask(Task::about(cut.text, question)).via(Handoff::None).run()?;
    row.calls = 1;
    row.worker = done.record.tokens;
    row.seq_len = row.worker.attended;
    row.keep_ratio = Some(1.0 - cut.removed as f64 / cut.tokens.max(1) as f64);
    let times = done.record.times;
    (row.prefill_s, row.decode_s) = (times.prefill.as_secs_f64(), times.decode.as_secs_f64());
    Ok(done.answer.text)
}
