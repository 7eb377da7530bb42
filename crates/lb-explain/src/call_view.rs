//! A worker call as the page shows it.

use lb_orchestrate::{CallKind, WorkerCall};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::figures::{bytes, count, sane, seconds};
use super::map_view::{self, MapView};
use super::turn_view::{OfRun, PROMPT, Page, Row};
use super::visible::{clip, short};
use crate::Result;

/// Characters that are shown of a piece of a document.
const DOCUMENT: usize = 3_000;

#[derive(Debug, Serialize)]
pub(super) struct CallView {
    number: usize,
    recursive: bool,
    failed: bool,
    open: bool,
    asked: String,
    replied: String,
    prompt: String,
    document: Option<String>,
    document_chars: String,
    response: String,
    facts: Vec<(&'static str, String)>,
    map: Option<MapView>,
    unmapped: Option<String>,
    trajectory: usize,
    /// The turns of a loop of its own, rendered: templates nest less deeply than loops may.
    nested: Option<String>,
}

impl CallView {
    pub(super) fn failed(&self) -> bool {
        self.failed
    }
}

impl Page {
    /// A call that began when there were `knew` segments; `id` is that of its turn.
    pub(super) fn call(
        &mut self,
        call: &WorkerCall,
        id: &str,
        knew: usize,
        run: &mut OfRun<'_, '_>,
    ) -> Result<CallView> {
        self.calls += 1;
        let number = self.calls;
        let map = call.briefing.as_ref().map(|map| {
            self.ratios.push(map.keep_ratio);
            let view = map_view::view(map, run.path, knew, run.head, &mut self.room);
            let what = format!("call {number}: kept {} of {} positions", view.kept, view.of);
            run.rows.push(Row {
                call: number,
                what,
                positions: map.kept_by.len(),
                strip: view.strip.clone(),
            });
            view
        });
        let recursive = call.kind == CallKind::Rlm;
        let nested = match &call.metadata {
            None => None,
            Some(child) => {
                let run = self.run(&child.run_metadata, &child.iterations, &format!("{id}.{number}."))?;
                Some(self.render("turns", context! { run => Value::from(Serde(&run)) })?)
            }
        };
        let document = call.query.document.as_deref();
        Ok(CallView {
            number,
            recursive,
            failed: call.error.is_some(),
            open: map.is_some() && self.ratios.len() == 1,
            asked: short(&call.query.prompt, 120),
            replied: short(&call.response, 120),
            prompt: clip(&call.query.prompt, PROMPT),
            document: document.map(|text| clip(text, DOCUMENT)),
            document_chars: count(document.map_or(0, |text| text.chars().count())),
            response: clip(&call.response, PROMPT),
            facts: facts(call),
            unmapped: if map.is_none() && !recursive { Some(unmapped(call)) } else { None },
            map,
            trajectory: run.trajectory,
            nested,
        })
    }
}

fn facts(call: &WorkerCall) -> Vec<(&'static str, String)> {
    let model = ("answered by", short(&call.root_model, 80));
    let time = ("time", seconds(call.execution_time));
    if call.kind == CallKind::Rlm {
        let tokens = format!("{} in, {} out", count(call.prompt_tokens), count(call.completion_tokens));
        return vec![model, time, ("tokens of its orchestrator", tokens)];
    }
    let tokens = &call.tokens;
    let mut facts = vec![
        model,
        ("handoff", short(&call.handoff, 80)),
        ("attended", count(tokens.attended)),
        ("prefilled", count(tokens.prefilled)),
        ("reused", count(tokens.reused)),
        ("generated", count(tokens.generated)),
        time,
    ];
    for (name, s) in [("reading", call.prefill_s), ("briefing", call.brief_s), ("answering", call.decode_s)] {
        if sane(s) > 0.0 {
            facts.push((name, seconds(s)));
        }
    }
    if call.cache_bytes > 0 {
        facts.push(("cache", bytes(call.cache_bytes)));
    }
    facts
}

fn unmapped(call: &WorkerCall) -> String {
    match call.handoff.as_str() {
        _ if call.error.is_some() => "The call failed; nothing was handed over.".to_owned(),
        "none" => "The worker had the prompt alone, nothing of the trajectory.".to_owned(),
        "latent-briefing" => "The log has no map of this briefing.".to_owned(),
        other => format!("The trajectory was handed over by {}; no map is made of that.", short(other, 80)),
    }
}
