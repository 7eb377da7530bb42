//! Base models have no chat template: prompts need none, sessions put plain text together, conversations are refused.

use std::fs;

use latent_briefing::am::Compaction;
use latent_briefing::model::{Error, GgufFormat, Message, RenderOptions, Warning, Worker};
use latent_briefing::orchestrate::{LocalConfig, LocalOrchestrator};
use latent_briefing::prelude::*;
use latent_briefing::session::PromptFormat;

use crate::support::assert_error;
use crate::support::checkpoints::Copy;

fn base(tokenizer_config: impl FnOnce(&mut serde_json::Value)) -> Worker {
    let copy = Copy::of("llama3");
    fs::remove_file(copy.file("chat_template.jinja")).unwrap();
    copy.edit_json("tokenizer_config.json", tokenizer_config);
    copy.load()
}

#[test]
fn prompts_need_no_template() {
    for template in [None, Some(serde_json::json!(null)), Some(serde_json::json!([]))] {
        let worker = base(|config| {
            config.as_object_mut().unwrap().extend(template.map(|t| ("chat_template".to_owned(), t)));
        });
        assert!(worker.warnings().is_empty());
        let prompt = worker.tokenizer().encode_prompt("Who keeps the ledger?").unwrap();
        let own = Copy::of("llama3").load();
        assert_eq!(prompt, own.tokenizer().encode_prompt("Who keeps the ledger?").unwrap());
        let run = |worker: &Worker| {
            let options = GenerateOptions::greedy(3);
            worker
                .generate(&mut worker.model().new_cache(), &prompt, &options, &mut |_, _| true)
                .unwrap()
                .tokens
        };
        assert_eq!(run(&worker), run(&own));
    }
}

#[test]
fn conversations_are_refused_with_what_is_missing() {
    let worker = base(|_| {});
    let error =
        worker.encode_conversation(&[Message::new("user", "hello")], &RenderOptions::default()).unwrap_err();
    assert_error!(error, Error::NoChatTemplate { .. }, "chat_template.jinja", "conversation");
    assert_error!(worker.template().unwrap_err(), Error::NoChatTemplate { .. }, "tokenizer_config.json");
    // A GGUF file is named itself.
    let copy = Copy::of("llama3");
    fs::remove_file(copy.file("chat_template.jinja")).unwrap();
    let file = copy.file("").with_extension("gguf");
    let checkpoint = Checkpoint::dir(copy.file("")).unwrap();
    checkpoint.write_gguf(&file, GgufFormat::F32).unwrap();
    let read = Worker::load(&file);
    fs::remove_file(&file).unwrap();
    assert_error!(read.unwrap().template().unwrap_err(), Error::NoChatTemplate { .. }, ".gguf");
    let error = LocalOrchestrator::new(worker, LocalConfig::default()).unwrap_err();
    assert!(error.to_string().contains("chat_template.jinja"), "{error}");
}

#[test]
fn sessions_are_plain_text() {
    let worker = base(|_| {});
    assert!(
        matches!(worker.session_warnings()[..], [Warning::PlainText { .. }]),
        "{:?}",
        worker.session_warnings()
    );
    assert!(Copy::of("llama3").load().session_warnings().is_empty());
    let format = PromptFormat { system: Some("Answer in one word.".into()), ..PromptFormat::default() };
    let mut session =
        WorkerSession::with(&worker, SessionConfig { format, ..SessionConfig::default() }).unwrap();
    session.extend(Segment::new(Source::Finding, "the keeper is Ada")).unwrap();
    let text = worker.tokenizer().decode(session.tokens()).unwrap();
    assert!(text.starts_with("Answer in one word.\n\nNotes so far:\n"), "{text:?}");
    assert!(text.ends_with("the keeper is Ada\n"), "{text:?}");
    let briefing = session.brief("Who keeps it?", Compaction::keep_ratio(0.5)).unwrap();
    assert!(briefing.kept_len() < session.seq_len());
    session.ask("Who keeps it?").over(&briefing).run().unwrap();
    let full = session.ask("Who keeps it?").via(Handoff::FullKv).run().unwrap();
    assert!(full.answer.tokens.attended > 0);
}
