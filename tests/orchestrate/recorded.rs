//! Logs of other programs as trajectories: each format by small samples of its own schema.

use latent_briefing::prelude::*;
use latent_briefing::session::Error;
use latent_briefing::session::{LogFault, LogFormat, LogNote, RecordedLog};
use serde_json::{Value, json};

use crate::support::{assert_error, embedded};

fn read(value: &Value) -> RecordedLog {
    RecordedLog::from_json(value).unwrap_or_else(|fault| panic!("{fault}: {value}"))
}

/// The lines that a worker reads.
fn lines(log: &RecordedLog) -> Vec<String> {
    log.trajectory.segments().iter().map(|s| format!("{}: {}", s.label(), s.text)).collect()
}

struct Sample {
    log: Value,
    format: LogFormat,
    lines: &'static [&'static str],
    notes: Vec<LogNote>,
}

fn sample(format: LogFormat, log: Value, lines: &'static [&'static str]) -> Sample {
    Sample { log, format, lines, notes: Vec::new() }
}

impl Sample {
    fn noting(mut self, notes: impl IntoIterator<Item = LogNote>) -> Self {
        self.notes.extend(notes);
        self
    }
}

fn left_out(what: &str, parts: usize) -> LogNote {
    LogNote::LeftOut { what: what.to_owned(), parts }
}

#[track_caller]
fn check(samples: Vec<Sample>) {
    for sample in samples {
        let log = read(&sample.log);
        assert_eq!(lines(&log), sample.lines, "{}", sample.log);
        assert_eq!((log.format, log.notes), (sample.format, sample.notes), "{}", sample.log);
    }
}

/// Chat completions as the `openai` package sends and returns them: calls with `content: null`, parts, the form before
/// `tool_calls`, and what other servers add.
#[test]
fn chats_of_openai() {
    check(vec![
        sample(
            LogFormat::OpenAiChat,
            json!({"model": "m", "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "Weather?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                    {"type": "text", "text": "In Oslo."}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_1", "type": "function",
                     "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
                    {"id": "call_2", "type": "function",
                     "function": {"name": "time", "arguments": "{\"zone\":\"CET\",\"day\":1}"}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "12 C"},
                {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "9:00"}]},
                {"role": "assistant", "content": "12 degrees.", "refusal": null},
            ]}),
            &[
                "request: Be brief.",
                "request: Weather?",
                "request: In Oslo.",
                "code: weather(Oslo)",
                "code: time({\"zone\":\"CET\",\"day\":1})",
                "tool weather: 12 C",
                "tool time: 9:00",
                "reply: 12 degrees.",
            ],
        )
        .noting([left_out("image_url", 1)]),
        sample(
            LogFormat::OpenAiChat,
            json!([
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "I look it up.", "reasoning_content": "A tool would do.",
                 "function_call": {"name": "weather", "arguments": "{\"city\": "}},
                {"role": "function", "name": "weather", "content": "12 C"},
                {"role": "assistant", "content": "<think>Done.</think>\n\n12 degrees."},
                {"role": "user", "content": "  \n"},
                {"role": "assistant", "content": ""},
            ]),
            &[
                "request: Weather?",
                "reasoning: A tool would do.",
                "reasoning: I look it up.",
                "code: weather({\"city\":)",
                "tool weather: 12 C",
                "reasoning: Done.",
                "reply: 12 degrees.",
            ],
        )
        .noting([LogNote::Empty { messages: 2 }]),
        // A line of a batch file.
        sample(
            LogFormat::OpenAiChat,
            json!({"custom_id": "r-1", "method": "POST", "url": "/v1/chat/completions",
                   "body": {"messages": [{"role": "user", "content": "Hi"}]}}),
            &["request: Hi"],
        ),
    ]);
}

/// The Responses interface: items with a type, in the request's input and the answer's output; lines of Codex wrap them.
#[test]
fn items_of_openai_responses() {
    let items = json!([
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Look first."}]},
        {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": "{\"command\":[\"ls\"]}"},
        {"type": "function_call_output", "call_id": "c1", "output": "src"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin Patch"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "Done"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Fixed."}]},
    ]);
    let expected: &[&str] = &[
        "request: Fix it",
        "reasoning: Look first.",
        "code: shell({\"command\":[\"ls\"]})",
        "tool shell: src",
        "code: apply_patch(*** Begin Patch)",
        "tool apply_patch: Done",
        "reply: Fixed.",
    ];
    let wrapped: Vec<Value> = items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| json!({"timestamp": "t", "type": "response_item", "payload": item}))
        .collect();
    check(vec![
        sample(LogFormat::OpenAiResponses, items.clone(), expected).noting([left_out("reasoning", 1)]),
        sample(LogFormat::OpenAiResponses, Value::Array(wrapped), expected)
            .noting([left_out("reasoning", 1)]),
        sample(
            LogFormat::OpenAiResponses,
            json!({"instructions": "Be brief.", "input": "Hi",
                   "output": [{"type": "message", "role": "assistant",
                               "content": [{"type": "output_text", "text": "Hello."}]}]}),
            &["request: Be brief.", "request: Hi", "reply: Hello."],
        ),
    ]);
}

/// The messages of the `anthropic` package: blocks of texts, thoughts, calls and results; lines of Claude Code wrap them.
#[test]
fn messages_of_anthropic() {
    let messages = json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "A tool would do.", "signature": "EqQB"},
            {"type": "redacted_thinking", "data": "EmwK"},
            {"type": "text", "text": "I look it up."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": false, "content": [
                {"type": "text", "text": "12 C"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}]},
            {"type": "text", "text": "Go on."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "12 degrees."}]},
    ]);
    let expected: &[&str] = &[
        "request: Weather?",
        "reasoning: A tool would do.",
        "reasoning: I look it up.",
        "code: weather(Oslo)",
        "tool weather: 12 C",
        "request: Go on.",
        "reply: 12 degrees.",
    ];
    let notes = || [left_out("redacted_thinking", 1), left_out("image", 1)];
    let mut transcript = vec![json!({"type": "summary", "summary": "Weather", "leafUuid": "u"})];
    for message in messages.as_array().unwrap() {
        let kind = message["role"].clone();
        transcript.push(json!({"type": kind, "uuid": "u", "isSidechain": false, "message": message}));
    }
    let with_system = json!({"system": [{"type": "text", "text": "Be brief."}], "messages": [
        {"role": "user", "content": "Hi"}]});
    check(vec![
        sample(LogFormat::Anthropic, messages, expected).noting(notes()),
        sample(LogFormat::Anthropic, Value::Array(transcript), expected)
            .noting([left_out("summary", 1)])
            .noting(notes()),
        sample(LogFormat::Anthropic, with_system, &["request: Be brief.", "request: Hi"]),
    ]);
}

/// Hand-crafted logs of Who&When (Magentic-One on GAIA): the speaker is the role, the aside in parentheses.
#[test]
fn histories_of_magentic_one() {
    let history = json!([
        {"content": "Who wrote it?", "role": "human"},
        {"content": "Initial plan:", "role": "Orchestrator (thought)"},
        {"content": "Please search.", "role": "Orchestrator (-> WebSurfer)"},
        {"content": "Next speaker WebSurfer", "role": "Orchestrator (thought)"},
        {"content": "I typed it.", "role": "WebSurfer"},
        {"content": "Please write a script.", "role": "Orchestrator (-> Assistant)"},
        {"content": "```python\nprint(1)\n```", "role": "Assistant"},
        {"content": "1", "role": "ComputerTerminal"},
        {"content": "No agent selected.", "role": "Orchestrator (termination condition)"},
    ]);
    let expected: &[&str] = &[
        "request: Who wrote it?",
        "reasoning: Initial plan:",
        "reasoning -> WebSurfer: Please search.",
        "reasoning: Next speaker WebSurfer",
        "tool WebSurfer: I typed it.",
        "reasoning -> Assistant: Please write a script.",
        "tool Assistant: ```python\nprint(1)\n```",
        "tool ComputerTerminal: 1",
        "tool termination condition: No agent selected.",
    ];
    let who_and_when = json!({
        "is_corrected": true, "question": "Who wrote it?", "question_ID": "q1", "level": 2,
        "ground_truth": "Ann", "history": history, "mistake_agent": "WebSurfer", "mistake_step": "4",
        "mistake_reason": "The page was not opened."});
    let log = read(&who_and_when);
    assert_eq!((&log.id, log.about.as_deref()), (&None, Some("q1")));
    assert_eq!((log.task.as_str(), log.target.as_str()), ("Who wrote it?", ""));
    assert_eq!(log.answers, ["Ann"]);
    // A team of today's AutoGen, as `save_state` writes it.
    let state = json!({"type": "TeamState", "version": "1.0.0", "agent_states": {
    "WebSurfer": {"type": "ChatAgentContainerState", "agent_state": {}, "message_buffer": []},
    "MagenticOneOrchestrator": {"type": "MagenticOneOrchestratorState", "task": "Who?", "facts": "", "plan": "",
        "message_thread": [
            {"source": "user", "models_usage": null, "metadata": {}, "content": "Who?", "type": "TextMessage"},
            {"source": "MagenticOneOrchestrator", "content": "Plan.", "type": "TextMessage"},
            {"source": "WebSurfer", "content": ["I typed it.", {"data": "iVBO"}], "type": "MultiModalMessage"},
        ]}}});
    check(vec![
        sample(LogFormat::MagenticOne, history.clone(), expected),
        sample(LogFormat::MagenticOne, who_and_when, expected),
        sample(
            LogFormat::MagenticOne,
            state,
            &["request: Who?", "reasoning: Plan.", "tool WebSurfer: I typed it."],
        )
        .noting([left_out("image", 1)]),
    ]);
}

/// Algorithm-generated logs of Who&When (AutoGen 0.2: `name` says who, `role` whose turn), and the typed messages of
/// AutoGen's AgentChat as `model_dump` writes them.
#[test]
fn groups_and_events_of_autogen() {
    let group = json!({
        "is_correct": false, "question": "How many clients?", "question_ID": "q", "level": "2", "ground_truth": "8",
        "history": [
            {"content": "You are given a task. # General Task\nHow many clients?", "role": "assistant", "name": "Excel_Expert"},
            {"content": "I count.\n```python\nprint(4)\n```", "role": "assistant", "name": "Excel_Expert"},
            {"content": "exitcode: 0 (execution succeeded)\nCode output: 4\n", "role": "user", "name": "Computer_terminal"},
            {"content": "TERMINATE", "role": "user", "name": "DataVerification_Expert"}],
        "mistake_agent": "Excel_Expert", "mistake_step": "0", "mistake_reason": "r",
        "system_prompt": {"Excel_Expert": "## Your role"}});
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 1});
    let events = json!({"messages": [
        {"source": "user", "models_usage": null, "metadata": {}, "content": "1+1?", "type": "TextMessage"},
        {"source": "assistant", "models_usage": usage, "metadata": {}, "content": "I add.", "type": "ThoughtEvent"},
        {"source": "assistant", "models_usage": usage, "metadata": {},
         "content": [{"id": "1", "arguments": "{\"a\": 1, \"b\": 1}", "name": "add"}], "type": "ToolCallRequestEvent"},
        {"source": "assistant", "models_usage": null, "metadata": {},
         "content": [{"content": "2", "name": "add", "call_id": "1", "is_error": false}], "type": "ToolCallExecutionEvent"},
        {"source": "assistant", "models_usage": null, "metadata": {}, "content": "2", "type": "ToolCallSummaryMessage"},
        {"source": "assistant", "models_usage": usage, "metadata": {}, "content": "It is 2.", "type": "TextMessage"}],
        "stop_reason": null});
    check(vec![
        sample(
            LogFormat::AutoGen,
            group,
            &[
                "request: You are given a task. # General Task\nHow many clients?",
                "reasoning Excel_Expert: I count.",
                "code Excel_Expert: print(4)",
                "tool Computer_terminal: exitcode: 0 (execution succeeded)\nCode output: 4\n",
                "reasoning DataVerification_Expert: TERMINATE",
            ],
        )
        .noting([left_out("system_prompt", 1)]),
        sample(
            LogFormat::AutoGen,
            events,
            &[
                "request: 1+1?",
                "reasoning: I add.",
                "code: add({\"a\":1,\"b\":1})",
                "tool add: 2",
                "reply: It is 2.",
            ],
        )
        .noting([left_out("ToolCallSummaryMessage", 1)]),
    ]);
}

/// SWE-agent's `.traj`, before and since its version 1; mini-swe-agent's lists, whose outputs come as the user's.
#[test]
fn trajectories_of_swe_agent() {
    let steps = json!([
        {"action": "ls\n", "observation": "src\n", "response": "Look.\n```\nls\n```", "state": "{}", "thought": "Look."},
        {"action": "", "observation": "", "response": "I give up.", "state": "{}", "thought": "", "execution_time": 0.1},
    ]);
    let old = json!({"environment": "swe_main", "trajectory": steps, "history": [
        {"role": "system", "content": "SETTING", "agent": "primary"},
        {"agent": "primary", "content": "Here is a demonstration", "is_demo": true, "role": "user"},
        {"role": "user", "content": "ISSUE", "agent": "primary"},
        {"role": "assistant", "content": "Look.\n```\nls\n```", "thought": "Look.", "action": "ls\n", "agent": "primary"},
        {"role": "user", "content": "src\n", "agent": "primary"}],
        "info": {"exit_status": "submitted", "submission": "diff"}});
    let history = json!({"history": [
        {"role": "system", "content": "SETTING", "agent": "main", "message_type": "system_prompt"},
        {"role": "user", "content": [{"type": "text", "text": "ISSUE"}], "agent": "main", "message_type": "observation"},
        {"role": "assistant", "content": "Look.", "thought": "Look.", "action": "ls", "agent": "main",
         "tool_calls": [{"function": {"arguments": "{}", "name": "ls"}, "id": "c", "type": "function"}],
         "message_type": "action"},
        {"role": "tool", "content": "src", "agent": "main", "tool_call_ids": ["c"], "message_type": "observation"}]});
    let mini = json!([
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "Solve it."},
        {"role": "assistant", "content": "Look.\n\n```mswea_bash_command\nls\n```"},
        {"role": "user", "content": "<returncode>0</returncode>\n<output>\nsrc\n</output>"}]);
    let demonstration = || [left_out("demonstration", 1)];
    check(vec![
        sample(
            LogFormat::SweAgent,
            old,
            &[
                "request: SETTING",
                "request: ISSUE",
                "reasoning: Look.",
                "code: ls\n",
                "tool: src\n",
                "reasoning: I give up.",
            ],
        )
        .noting(demonstration()),
        sample(
            LogFormat::SweAgent,
            history,
            &["request: SETTING", "request: ISSUE", "reasoning: Look.", "code: ls", "tool: src"],
        ),
        sample(
            LogFormat::OpenAiChat,
            mini,
            &[
                "request: You are helpful.",
                "request: Solve it.",
                "reasoning: Look.",
                "code: ls",
                "tool: <returncode>0</returncode>\n<output>\nsrc\n</output>",
            ],
        ),
    ]);
}

/// Our own logs say what entered; of those of alexzhang13/rlm it is made of what the turns hold. ShareGPT has two fields.
#[test]
fn logs_of_loops_and_conversations_of_sharegpt() {
    let ours = json!([
        {"type": "metadata", "root_model": "m", "latent_briefing": {"question": "How many?"}},
        {"type": "iteration", "iteration": 1, "response": "…", "question": "How many?", "final_answer": null, "entered": [
            {"source": "reasoning", "text": "I look.", "pieces": []},
            {"source": "tool", "name": "grep", "text": "2", "pieces": []}]},
        {"type": "iteration", "iteration": 2, "question": "How many?", "stopped": "cancelled", "entered": [
            {"source": "reasoning", "text": "Never."}]},
        {"type": "iteration", "iteration": 2, "question": "How many?", "final_answer": "Two.", "entered": []}]);
    let log = read(&ours);
    assert_eq!((log.task.as_str(), log.target.as_str()), ("How many?", "Two."));
    let theirs = json!([
        {"type": "metadata", "root_model": "m", "max_depth": 1},
        {"type": "iteration", "iteration": 1, "response": "I look.\n```repl\nllm_query('x')\n```",
         "code_blocks": [{"code": "llm_query('x')", "result": {"stdout": "2\n", "stderr": "",
             "rlm_calls": [{"response": "It is 2."}]}}], "final_answer": null}]);
    let share = json!({"id": "identity_0", "conversations": [
        {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."},
        {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "12"}]});
    assert_eq!(read(&share).id.as_deref(), Some("identity_0"));
    check(vec![
        sample(LogFormat::Rlm, ours, &["reasoning: I look.", "tool grep: 2"])
            .noting([left_out("stopped turn", 1)]),
        sample(
            LogFormat::Rlm,
            theirs,
            &["reasoning: I look.", "code: llm_query('x')", "reply: It is 2.", "tool: 2\n"],
        ),
        sample(LogFormat::ShareGpt, share, &["request: Hi", "reply: Hello.", "code: {}", "tool: 12"]),
    ]);
}

/// The plain form, its segments as they are written, and what cannot be told apart.
#[test]
fn plain_logs_and_roles_that_say_nothing() {
    let segments = [Segment::tool("12 C").named("WebSurfer"), Segment::finding("It is mild.")];
    let plain = json!({"id": 7, "trajectory": segments, "task": "t", "target": "x", "answers": "y"});
    let log = read(&plain);
    assert_eq!(log.trajectory.segments(), segments);
    assert_eq!((log.id.as_deref(), log.answers.as_slice()), (Some("7"), &["y".to_owned()][..]));
    let odd = json!({"trajectory": [
        {"role": "Oracle", "content": "So be it."}, {"role": "Oracle", "content": "Again."},
        {"role": "", "content": 12}, {"role": "tool", "content": {"a": 1}}]});
    check(vec![
        sample(
            LogFormat::Plain,
            odd,
            &["tool Oracle: So be it.", "tool Oracle: Again.", "tool: 12", "tool: {\"a\":1}"],
        )
        .noting([
            LogNote::UnknownRole { role: "Oracle".to_owned(), messages: 2 },
            LogNote::UnknownRole { role: String::new(), messages: 1 },
        ]),
    ]);
    let note = LogNote::UnknownRole { role: "Oracle".to_owned(), messages: 2 }.to_string();
    assert_eq!(note, "2 messages of the role `Oracle`, which says not what it is: read as tool output");
}

#[test]
fn what_is_no_log_is_named() {
    for (value, message) in [
        (json!(12), "no log that is known: a number"),
        (json!({"a": 1, "b": 2}), "no log that is known: an object with the fields [a, b]"),
        (json!([]), "field `messages` holds no text"),
        (json!({"messages": []}), "field `messages` holds no text"),
        (json!({"messages": [{"role": "user", "content": null}]}), "field `messages` holds no text"),
        (json!({"messages": {}}), "field `messages` is an object, expected an array"),
        (json!({"history": [{"role": "user", "content": "x"}, 3]}), "field `history[1]` is a number"),
        (json!({"trajectory": [{"role": "a", "content": "x"}], "task": 3}), "field `task` is a number"),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "answers": {}}),
            "field `answers` is an object",
        ),
        (json!([{"messages": [{"role": "user", "content": "x"}]}, {"messages": []}]), "2 logs"),
    ] {
        let fault = RecordedLog::from_json(&value).unwrap_err();
        assert!(fault.to_string().contains(message), "{fault}");
    }
    let several = json!([{"messages": []}, {"messages": []}]);
    assert_eq!(RecordedLog::from_json(&several), Err(LogFault::Several { logs: 2 }));
}

#[test]
fn the_last_message_becomes_the_target() {
    let log = read(&json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Second?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Thanks."}]));
    let log = log.with_last_as_target();
    assert_eq!((log.task.as_str(), log.target.as_str()), ("Second?", "Two."));
    assert_eq!(lines(&log), ["request: Be brief.", "request: First?", "reply: One."]);
    // What the log says itself stays.
    let given = json!({"trajectory": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
                       "task": "t", "target": "x"});
    let given = read(&given).with_last_as_target();
    assert_eq!((given.task.as_str(), given.target.as_str(), given.trajectory.len()), ("t", "x", 2));
}

#[test]
fn a_file_with_one_log_is_read_into_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.json");
    let chat = json!([{"role": "user", "content": "Who? <|im_end|>"}, {"role": "tool", "name": "web", "content": "Ana"}]);
    let text = serde_json::to_string_pretty(&chat).unwrap();
    let wide: Vec<u8> =
        std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for bytes in [text.clone().into_bytes(), format!("\u{FEFF}{text}").into_bytes(), wide] {
        std::fs::write(&path, bytes).unwrap();
        let mut session = embedded().session().unwrap();
        session.extend_all(Trajectory::read(&path).unwrap(), &mut |_, _| {}).unwrap();
        let said = embedded().tokenizer().decode(session.tokens()).unwrap();
        assert!(said.ends_with("request: Who? <|im_end|>\ntool web: Ana\n"), "{said}");
    }
    for (bytes, line, message) in [
        (&b""[..], None, "the file is empty"),
        (b"\xE9t\xE9", None, "byte 0xE9 at offset 0"),
        (b"{\"role\": \"user\", \"content\": \"a\"}\n{\"role\":\n{}\n", Some(2), "EOF"),
        (b"[{\n\"role\": }", Some(2), "expected value"),
        (b"{\"a\": 1}\n{\"a\": 2}\n", None, "no log that is known"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = Trajectory::read(&path).unwrap_err();
        assert_error!(&error, Error::Log { .. }, message);
        assert!(matches!(error, Error::Log { line: found, .. } if found == line), "{error:?}");
    }
    // Cut off while it was written: what is whole is read.
    std::fs::write(&path, "{\"role\": \"user\", \"content\": \"a\"}\n{\"role\": \"us").unwrap();
    let log = Trajectory::read(&path).unwrap();
    assert_eq!((lines(&log), log.notes), (vec!["request: a".to_owned()], vec![left_out("torn line", 1)]));
}

#[test]
fn names_are_one_short_line() {
    assert_eq!(Segment::tool("x").named(" Web\n Surfer ").label(), "tool Web Surfer");
    assert_eq!(Segment::tool("x").named(" \t").label(), "tool");
    assert_eq!(Segment::tool("x").named("é".repeat(200)).name.unwrap().chars().count(), 80);
    let unnamed = serde_json::to_value(Segment::tool("x")).unwrap();
    assert_eq!(unnamed, json!({"source": "tool", "text": "x"}));
}
