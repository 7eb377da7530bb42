//! A checkpoint as the orchestrator: its cache between turns changes what is read, never what is said.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use latent_briefing::model::{Message, RenderOptions};
use latent_briefing::orchestrate::{
    ChatMessage, ChatRequest, Completion, Error, Finish, LocalConfig, LocalOrchestrator, LocalThinking,
    Orchestrator, Result, Role, Usage,
};
use latent_briefing::prelude::*;
use latent_briefing::session::CancelToken;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

use crate::support::{assert_error, embedded};

fn local(max_tokens: usize) -> LocalOrchestrator {
    let config = LocalConfig { generate: GenerateOptions::greedy(max_tokens), ..LocalConfig::default() };
    LocalOrchestrator::new(embedded().clone(), config).unwrap()
}

fn ask(orchestrator: &mut LocalOrchestrator, messages: &[ChatMessage]) -> Result<Completion> {
    let cancel = CancelToken::new();
    orchestrator.complete(&ChatRequest { messages, max_tokens: None, deadline: None, cancel: &cancel })
}

fn user(text: impl Into<String>) -> ChatMessage {
    ChatMessage::new(Role::User, text)
}

fn notes() -> Vec<ChatMessage> {
    let lines: Vec<String> = super::lines().iter().map(|segment| segment.text.clone()).collect();
    vec![ChatMessage::new(Role::System, lines.join("\n")), user("Who works in Redmoor?")]
}

fn tokens(messages: &[ChatMessage]) -> Vec<u32> {
    let role = |m: &ChatMessage| format!("{:?}", m.role).to_lowercase();
    let messages: Vec<Message> = messages.iter().map(|m| Message::new(role(m), m.content.as_str())).collect();
    embedded().encode_conversation(&messages, &RenderOptions::default()).unwrap()
}

#[test]
fn a_turn_is_what_the_worker_generates() {
    let prompt = tokens(&notes());
    let mut cache = embedded().model().new_cache();
    let options = GenerateOptions::greedy(12);
    let generation = embedded().generate(&mut cache, &prompt, &options, &mut |_, _| true).unwrap();
    let mut orchestrator = local(12);
    assert_eq!((orchestrator.model(), orchestrator.backend()), (embedded().name(), "local"));
    let completion = ask(&mut orchestrator, &notes()).unwrap();
    assert_eq!(completion.text, generation.text);
    assert_eq!(completion.reasoning, None);
    let output = generation.tokens.len();
    assert_eq!(completion.usage, Usage { input: prompt.len(), output, ..Usage::default() });
    assert_eq!(orchestrator.cached_tokens(), cache.logical_len());
}

#[test]
fn the_next_turn_reads_what_is_new() {
    let mut orchestrator = local(12);
    let mut messages = notes();
    let first = ask(&mut orchestrator, &messages).unwrap();
    let held = orchestrator.cached_tokens();
    messages.push(ChatMessage::new(Role::Assistant, first.text));
    messages.push(user("Who keeps the Velmar ledger?"));
    let second = ask(&mut orchestrator, &messages).unwrap();
    assert_eq!(second.usage.cached, held, "this template shows a turn as it was written");
    assert_eq!(second.usage.input, tokens(&messages).len());
    assert_eq!(second.text, ask(&mut local(12), &messages).unwrap().text);
    // The same again: all but the token whose logits are wanted.
    let again = ask(&mut orchestrator, &messages).unwrap();
    assert_eq!((again.text, again.usage.cached), (second.text, second.usage.input - 1));
    orchestrator.clear();
    assert_eq!(ask(&mut orchestrator, &messages).unwrap().usage.cached, 0);
}

#[test]
fn whatever_was_read_before_the_answer_is_that_of_a_fresh_one() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut orchestrator = local(8);
    let mut messages = notes();
    let lines = super::lines();
    for round in 0..12 {
        match rng.random_range(0..4) {
            0 if messages.len() > 2 => {
                messages.pop();
            }
            1 => messages[0].content.push_str(" Nothing else is known."),
            2 => messages[1] = user(format!("Question {round}: who keeps the ledger?")),
            _ => messages.push(user(lines.choose(&mut rng).unwrap().text.clone())),
        }
        let (kept, fresh) =
            (ask(&mut orchestrator, &messages).unwrap(), ask(&mut local(8), &messages).unwrap());
        assert_eq!((kept.text, kept.usage.input), (fresh.text, fresh.usage.input), "round {round}");
    }
}

#[test]
fn limits_of_tokens() {
    let mut orchestrator = local(12);
    let cancel = CancelToken::new();
    let messages = notes();
    let request = ChatRequest { messages: &messages, max_tokens: Some(1), deadline: None, cancel: &cancel };
    let completion = orchestrator.complete(&request).unwrap();
    assert_eq!((completion.usage.output, completion.finish), (1, Finish::Length));
    let none = ChatRequest { max_tokens: Some(0), ..request };
    assert_error!(orchestrator.complete(&none).unwrap_err(), Error::Model(_), "max_new_tokens");
    assert_eq!(ask(&mut orchestrator, &messages).unwrap().text, ask(&mut local(12), &messages).unwrap().text);

    let config = LocalConfig { generate: GenerateOptions::greedy(0), ..LocalConfig::default() };
    let error = LocalOrchestrator::new(embedded().clone(), config).unwrap_err();
    assert_error!(error, Error::Model(_), "max_new_tokens");
}

#[test]
fn a_conversation_beyond_the_positions_is_refused() {
    let mut orchestrator = local(12);
    let before = ask(&mut orchestrator, &notes()).unwrap();
    let limit = embedded().config().position_limit();
    let long = [user("word ".repeat(limit))];
    let error = ask(&mut orchestrator, &long).unwrap_err();
    assert_error!(error, Error::Model(_), "more than", &format!("{limit} tokens"), "positions");
    assert_error!(ask(&mut orchestrator, &[]).unwrap_err(), Error::Model(_), "messages");
    assert_eq!(ask(&mut orchestrator, &notes()).unwrap().text, before.text);
}

/// Of some thousand tokens, which take far longer to read than anything here waits.
fn long() -> Vec<ChatMessage> {
    let lines: Vec<String> = super::lines().iter().map(|segment| segment.text.clone()).collect();
    let mut messages = notes();
    messages[0].content = lines.join("\n").repeat(40);
    messages
}

#[test]
fn reading_is_called_off() {
    let mut orchestrator = local(12);
    let messages = long();
    let cancel = CancelToken::new();
    let other = cancel.clone();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(10));
        other.cancel();
    });
    let request = ChatRequest { messages: &messages, max_tokens: None, deadline: None, cancel: &cancel };
    assert_error!(orchestrator.complete(&request).unwrap_err(), Error::Cancelled, "called off");
    stopper.join().unwrap();
    let fresh = CancelToken::new();
    let deadline = Some(Instant::now() + Duration::from_millis(10));
    let late = ChatRequest { deadline, cancel: &fresh, ..request };
    assert_error!(orchestrator.complete(&late).unwrap_err(), Error::Timeout { .. }, "turn");
    assert!(orchestrator.cached_tokens() < tokens(&messages).len());
    let completion = ask(&mut orchestrator, &messages).unwrap();
    assert_eq!(completion.text, ask(&mut local(12), &messages).unwrap().text);
}

#[test]
fn writing_is_called_off() {
    let folder = tempfile::tempdir().unwrap();
    copy_worker(folder.path());
    // No token that it writes ends a turn.
    for (file, from, to) in [
        ("config.json", "\"max_position_embeddings\": 8192", "\"max_position_embeddings\": 2048"),
        ("config.json", "\"eos_token_id\": 1068", "\"eos_token_id\": 1091"),
        ("generation_config.json", "\"eos_token_id\": 1068", "\"eos_token_id\": 1091"),
        ("tokenizer_config.json", "\"eos_token\"", "\"no_token\""),
    ] {
        edit(&folder.path().join(file), |text| {
            assert!(text.contains(from), "{file}");
            text.replace(from, to)
        });
    }
    let worker = Worker::load(folder.path()).unwrap();
    let config = LocalConfig { generate: GenerateOptions::greedy(4000), ..LocalConfig::default() };
    let mut orchestrator = LocalOrchestrator::new(worker, config).unwrap();
    let messages = notes();
    let read = tokens(&messages).len();
    let cancel = CancelToken::new();
    let request = ChatRequest { messages: &messages, max_tokens: Some(1), deadline: None, cancel: &cancel };
    orchestrator.complete(&request).unwrap();
    assert_eq!(orchestrator.cached_tokens(), read);
    let deadline = Some(Instant::now() + Duration::from_millis(200));
    let late = ChatRequest { max_tokens: None, deadline, ..request };
    assert_error!(orchestrator.complete(&late).unwrap_err(), Error::Timeout { .. }, "turn");
    assert!(orchestrator.cached_tokens() > read, "it had begun to write");
    let completion = orchestrator.complete(&ChatRequest { max_tokens: Some(3), ..request }).unwrap();
    assert_eq!((completion.usage.cached, completion.usage.output), (read - 1, 3));
    // To the last position of the model, and not beyond.
    let completion = orchestrator.complete(&ChatRequest { max_tokens: None, ..request }).unwrap();
    assert_eq!(completion.finish, Finish::Length);
    assert_eq!(orchestrator.cached_tokens(), 2048);
}

fn copy_worker(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lb-model/assets/worker");
    for entry in fs::read_dir(source).unwrap().flatten() {
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

fn edit(file: &Path, change: impl FnOnce(&str) -> String) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, change(&text)).unwrap();
}

#[test]
fn thoughts_that_the_template_opens_are_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let end = "{%- if add_generation_prompt %}{{- '<think>\\n' }}{%- endif %}";
    copy_worker(folder.path());
    edit(&folder.path().join("chat_template.jinja"), |template| format!("{template}{end}"));
    let worker = Worker::load(folder.path()).unwrap();
    let config = LocalConfig { generate: GenerateOptions::greedy(12), ..LocalConfig::default() };
    let mut orchestrator = LocalOrchestrator::new(worker, config).unwrap();
    let completion = ask(&mut orchestrator, &notes()).unwrap();
    assert_eq!(completion.text, "");
    assert!(completion.reasoning.is_some());
    assert_eq!(completion.usage.reasoning, completion.usage.output);
}

#[test]
fn thinking_is_the_templates_variable() {
    let prompt_of = |thinking| {
        let config = LocalConfig { generate: GenerateOptions::greedy(1), thinking, ..LocalConfig::default() };
        let mut orchestrator = LocalOrchestrator::new(embedded().clone(), config).unwrap();
        ask(&mut orchestrator, &notes()).unwrap().usage.input
    };
    let plain = prompt_of(LocalThinking::Template);
    assert_eq!(prompt_of(LocalThinking::On), plain);
    assert!(prompt_of(LocalThinking::Off) > plain, "an empty thought is in front");
}

/// As Mistral 7B v0.2 has it: no system role, users and assistants in turn.
const STRICT: &str = "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
    {% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}\
    {% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}\
    {% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";
/// The system text is dropped without a word.
const DEAF: &str = "{% for m in messages %}{% if m['role'] != 'system' %}<{{ m['role'] }}>{{ m['content'] }}\n{% endif %}{% endfor %}";
/// A system role, and turns checked behind it.
const IN_TURN: &str = "{% for m in messages %}{% if loop.index0 > 0 and (m['role'] == 'user') != (loop.index0 % 2 == 1) %}\
    {{ raise_exception('after the optional system message, roles must alternate') }}{% endif %}\
    <{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}";

/// A tiny checkpoint with this chat template.
fn with_template(template: &str) -> (tempfile::TempDir, Worker) {
    let folder = tempfile::tempdir().unwrap();
    copy_worker(folder.path());
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let worker = Worker::load(folder.path()).unwrap();
    (folder, worker)
}

fn message(role: Role, text: &str) -> ChatMessage {
    ChatMessage::new(role, text)
}

#[test]
fn a_template_without_a_system_role_gets_its_text_in_the_first_user_turn() {
    use Role::{Assistant, System, User};
    let run = [
        message(System, "The code of the Oslund relay is 5521."),
        message(User, "Anara works in Redmoor."),
        message(User, "Turn 1/2:"),
        message(Assistant, "print(1)"),
        message(User, "1"),
        message(User, "Turn 2/2:"),
    ];
    let folded = "The code of the Oslund relay is 5521.\n\nAnara works in Redmoor.";
    // What the template is given in the end, for each of them.
    let given: [(&str, Vec<ChatMessage>); 3] = [
        (
            STRICT,
            vec![
                message(User, &format!("{folded}\n\nTurn 1/2:")),
                message(Assistant, "print(1)"),
                message(User, "1\n\nTurn 2/2:"),
            ],
        ),
        (DEAF, [&[message(User, folded)], &run[2..]].concat()),
        (
            IN_TURN,
            vec![
                run[0].clone(),
                message(User, "Anara works in Redmoor.\n\nTurn 1/2:"),
                message(Assistant, "print(1)"),
                message(User, "1\n\nTurn 2/2:"),
            ],
        ),
    ];
    for (template, messages) in given {
        let (_folder, worker) = with_template(template);
        let rendered: Vec<Message> = messages
            .iter()
            .map(|m| Message::new(format!("{:?}", m.role).to_lowercase(), m.content.as_str()))
            .collect();
        let wanted = worker.encode_conversation(&rendered, &RenderOptions::default()).unwrap();
        let config = LocalConfig { generate: GenerateOptions::greedy(4), ..LocalConfig::default() };
        let mut orchestrator = LocalOrchestrator::new(worker, config.clone()).unwrap();
        let first = ask(&mut orchestrator, &run[..3]).unwrap().usage;
        let second = ask(&mut orchestrator, &run).unwrap();
        assert_eq!(second.usage.input, wanted.len(), "{template}");
        assert!(second.usage.cached + 8 > first.input, "what was read before stays read: {:?}", second.usage);
        // What is in that form already stays as it is.
        let again = ask(&mut orchestrator, &messages).unwrap();
        assert_eq!((again.text, again.usage.input), (second.text, wanted.len()), "{template}");
    }
}

#[test]
fn a_turn_ends_with_its_first_block_where_it_should() {
    // The built-in worker writes no fences: the turn is the same.
    let config =
        LocalConfig { generate: GenerateOptions::greedy(12), one_block: true, ..LocalConfig::default() };
    let mut orchestrator = LocalOrchestrator::new(embedded().clone(), config).unwrap();
    let completion = ask(&mut orchestrator, &notes()).unwrap();
    assert_eq!(completion, ask(&mut local(12), &notes()).unwrap());
}
