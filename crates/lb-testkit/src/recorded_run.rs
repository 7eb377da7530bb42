//! A real run whose orchestrator says what is written here, in a session that knows just enough Python for it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use crate::layered::Layered;
use lb_eval::episodes::{Episode, EpisodeConfig};
use lb_model::Worker;
use lb_orchestrate::{
    ChatRequest, Completion, Finish, Limits, Orchestrator, Result, Rlm, RlmConfig, RunRecord, Usage,
};
use lb_sandbox::{Executed, Fault, HostCall, Query, Repl, ReplHost};
use lb_session::{BriefConfig, Lookahead, Source};

const QUESTION: &str =
    "Which code opens the item that the Rastas lens points to, and what is the status of the Sarnak file?";

/// The turns, those of the recursive query in their place.
const TURNS: [&str; 8] = [
    "The text is a log of some kind. Before anything else I look at how long it is and how it begins.\n\
     ```repl\nprint(len(context))\nprint(context[:300])\n```",
    "One short line for each observation, with the part of the archive it comes from. I collect every line about the items \
     that may matter: the lens, what it is linked to, and their codes.\n\
     ```repl\nhits = []\nfor name in [\"Rastas\", \"Vorrik\", \"Istnor\", \"Karthorn\", \"Raspex\"]:\n    \
     for line in context.splitlines():\n        if name in line:  # the log has no other index\n            \
     hits.append(line)\nprint(\"\\n\".join(hits))\n```",
    "Some codes are corrected later on; the last one counts. A count of the sources first.\n\
     ```repl\ntotals = {part: len(found) for part, found in sorted(by_part.items())}\nprint(totals)\n```",
    "`by_part` was never made, and I do not need it. The workers have seen the lines I printed, so I ask them, several \
     questions at once.\n\
     ```repl\nreplies = llm_query_batched([\n    \"Where does the link of the Rastas lens lead?\",\n    \
     \"Tell me the code of the Vorrik vault.\",\n    \"Tell me the code of the Raspex ledger.\",\n    \
     \"Tell me the code of the Karthorn relay.\",\n])\nprint(replies)\n\
     note(\"lens\", \"The Rastas lens has a link to the Vorrik vault, which opens by code 7295.\")\n```",
    "The first part is settled. The status needs lines that I have not printed; a loop of its own reads the whole log for it.\n\
     ```repl\nstatus = rlm_query(\"Tell me the status of the Sarnak file.\", document=context)\nprint(status)\n```",
    "Every line about the file, and about what it is linked to:\n\
     ```repl\nfor line in context.splitlines():\n    for name in [\"Sarnak\", \"Fenkett\"]:\n        if name in line:\n            \
     print(line)\n```",
    "Two lines name a status; a worker says which is the file's.\n\
     ```repl\nanswer[\"content\"] = llm_query(\"Tell me the status of the Sarnak file.\")\nanswer[\"ready\"] = True\n```",
    "One check against the log itself, then I answer.\n\
     ```repl\ncheck = llm_query(\"Tell me the code of the Vorrik vault.\", document=context[780:960])\nprint(check)\n\
     answer[\"content\"] = \"The Vorrik vault, which the Rastas lens points to, opens by code 7295; the Sarnak file is missing.\"\n\
     answer[\"ready\"] = True\n```",
];

/// Runs it with the log in `dir`.
pub fn record(worker: &Worker, dir: &Path) -> RunRecord {
    let mut config = RlmConfig {
        handoff: BriefConfig::from(Layered::mad(4.0)).with_lookahead(Lookahead::NONE).into(),
        limits: Limits { depth: 2, ..Limits::default() },
        log_dir: Some(dir.to_owned()),
        ..RlmConfig::default()
    };
    config.session.policy.admit.extend([Source::Code, Source::Reply]);
    config.session.generate.max_new_tokens = 24;
    let open = || Ok(Box::new(Small::default()) as Box<dyn Repl>);
    let mut rlm = Rlm::new(worker, open, config).expect("the loop opens");
    let episode = Episode::generate(3, &EpisodeConfig::held_out((285, 1080), 5)).expect("an episode");
    let lines: Vec<&str> = episode.lines.iter().map(|line| line.text.as_str()).collect();
    rlm.add_context(&lines.join("\n")).expect("a document");
    let run = rlm.run(&mut Says { turns: TURNS.into() }, QUESTION).expect("an answer");
    RunRecord::open(run.log.expect("a log")).expect("the log opens")
}

struct Says {
    turns: VecDeque<&'static str>,
}

impl Orchestrator for Says {
    fn model(&self) -> &'static str {
        "a script"
    }

    fn backend(&self) -> &'static str {
        "program"
    }

    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        let chars = |messages: &[_]| {
            messages.iter().map(|m: &lb_orchestrate::ChatMessage| m.content.len()).sum::<usize>()
        };
        let said = self.turns.pop_front().unwrap_or("I have nothing more to say.");
        let (all, earlier) =
            (chars(request.messages), chars(&request.messages[..request.messages.len().saturating_sub(3)]));
        let usage = Usage { input: all / 4, cached: earlier / 4, output: said.len() / 4, ..Usage::default() };
        Ok(Completion { text: said.to_owned(), usage, finish: Finish::Stop, ..Completion::default() })
    }
}

/// Finds what the turns above do by looking for it.
#[derive(Default)]
struct Small {
    context: String,
    locals: BTreeMap<String, String>,
}

impl Small {
    fn slice(&self, from: usize, to: usize) -> String {
        self.context.chars().skip(from).take(to - from).collect()
    }

    fn query(&self, line: &str) -> Query {
        let part = line.contains("780:960");
        let slice = || if part { self.slice(780, 960) } else { self.context.clone() };
        let document = line.contains("document=context").then(slice);
        Query { prompt: quoted(line).remove(0), document, brief: true }
    }
}

impl Repl for Small {
    fn kind(&self) -> &'static str {
        "small"
    }

    fn dialect(&self) -> &'static str {
        ""
    }

    fn set_text(&mut self, name: &str, text: &str) -> lb_sandbox::Result<()> {
        text.clone_into(&mut self.context);
        let _ = self.locals.insert(name.to_owned(), format!("str of {} characters", text.chars().count()));
        Ok(())
    }

    fn execute(&mut self, code: &str, host: &mut dyn ReplHost) -> lb_sandbox::Result<Executed> {
        let mut done = Executed { elapsed: Duration::from_millis(2), ..Executed::default() };
        let mut print = |text: &str| {
            done.stdout.push_str(text);
            done.stdout.push('\n');
        };
        let names = code.lines().find(|line| line.contains("for name in")).map(quoted).unwrap_or_default();
        if code.contains("len(context)") {
            print(&self.context.chars().count().to_string());
            print(&self.slice(0, 300));
        }
        for line in self.context.lines().filter(|line| names.iter().any(|name| line.contains(name))) {
            print(line);
        }
        if code.contains("llm_query_batched") {
            let inside = code.split("])").next().unwrap_or_default();
            let queries = quoted(inside)
                .into_iter()
                .map(|prompt| Query { prompt, document: None, brief: true })
                .collect();
            let replies = host.call(HostCall::Llm(queries));
            print(&format!("{replies:?}"));
            self.locals.insert("replies".to_owned(), format!("{replies:?}"));
        }
        for line in code.lines() {
            if line.starts_with("note(") {
                let mut texts = quoted(line);
                host.call(HostCall::Note { text: texts.remove(1), key: texts.pop() });
            } else if line.contains("= rlm_query(") {
                print(&host.call(HostCall::Rlm(vec![self.query(line)])).concat());
            } else if line.contains("= llm_query(") {
                let query =
                    if line.starts_with("answer") { self.query(&line[17..]) } else { self.query(line) };
                let reply = host.call(HostCall::Llm(vec![query])).concat();
                print(&reply);
                done.answer.content = reply;
            } else if let Some(content) = line.strip_prefix("answer[\"content\"]") {
                done.answer.content = quoted(content).concat();
            }
        }
        done.answer.ready = code.contains("answer[\"ready\"] = True");
        if code.contains("by_part") {
            "NameError: name 'by_part' is not defined".clone_into(&mut done.stderr);
            done.fault = Some(Fault::Exception);
        }
        done.locals.clone_from(&self.locals);
        Ok(done)
    }

    fn variable(&mut self, _: &str) -> lb_sandbox::Result<Option<String>> {
        Ok(None)
    }
}

/// The texts in double quotes.
fn quoted(code: &str) -> Vec<String> {
    code.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}
