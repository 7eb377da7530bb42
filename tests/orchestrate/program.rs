//! Programs as orchestrators.

use std::time::Instant;

use latent_briefing::orchestrate::{
    ChatMessage, ChatRequest, Completion, Error, Orchestrator, Program, Result, Role, Script,
};
use latent_briefing::session::CancelToken;

use crate::support::assert_error;

fn ask(orchestrator: &mut dyn Orchestrator, messages: &[ChatMessage]) -> Result<Completion> {
    let cancel = CancelToken::new();
    orchestrator.complete(&ChatRequest { messages, max_tokens: None, deadline: None, cancel: &cancel })
}

#[test]
fn a_closure_sees_the_conversation_and_keeps_its_state() {
    let mut turns = 0;
    let mut program = Program::new(|messages: &[ChatMessage]| {
        turns += 1;
        match messages.last() {
            Some(last) => Ok(format!("{turns}: {}", last.content)),
            None => Err("nothing was said".into()),
        }
    })
    .named("walker");
    assert_eq!((program.model(), program.backend()), ("walker", "program"));
    let messages = [ChatMessage::new(Role::User, "first"), ChatMessage::new(Role::User, "second")];
    assert_eq!(ask(&mut program, &messages[..1]).unwrap().text, "1: first");
    let second = ask(&mut program, &messages).unwrap();
    assert_eq!(second, Completion { text: "2: second".to_string(), ..Completion::default() });
    assert_eq!(second.usage.unreported, 0, "a program costs no tokens");
    let error = ask(&mut program, &[]).unwrap_err();
    assert!(std::error::Error::source(&error).is_some());
    assert_error!(error, Error::Orchestrator(_), "nothing was said");
}

#[test]
fn a_script_ends() {
    let mut script = Script::new(["one", "two"]);
    assert_eq!((script.model(), script.backend()), ("script", "program"));
    let messages = [ChatMessage::new(Role::User, "next")];
    assert_eq!(ask(&mut script, &messages).unwrap().text, "one");
    assert_eq!(ask(&mut script, &messages).unwrap().text, "two");
    for _ in 0..2 {
        let error = ask(&mut script, &messages).unwrap_err();
        assert_error!(error, Error::ScriptEnded { replies: 2 }, "all 2 replies");
    }
}

#[test]
fn neither_is_asked_when_it_is_too_late() {
    let mut asked = 0;
    {
        let mut program = Program::new(|_: &[ChatMessage]| {
            asked += 1;
            Ok(String::new())
        });
        let mut script = Script::new(["kept"]);
        let both: [&mut dyn Orchestrator; 2] = [&mut program, &mut script];
        for orchestrator in both {
            let cancel = CancelToken::new();
            let late = ChatRequest {
                messages: &[],
                max_tokens: None,
                deadline: Some(Instant::now()),
                cancel: &cancel,
            };
            assert_error!(orchestrator.complete(&late).unwrap_err(), Error::Timeout { .. }, "turn");
            cancel.cancel();
            assert_error!(orchestrator.complete(&late).unwrap_err(), Error::Cancelled, "called off");
        }
        assert_eq!(ask(&mut script, &[]).unwrap().text, "kept");
    }
    assert_eq!(asked, 0);
}
