//! One log on a server: it is read there once, and every question about it is a request.

use std::time::Instant;

use lb_session::{CallTokens, CancelToken, Segment};
use serde_json::{Value, json};

use super::ask::Calls;
use super::logs::Log;
use super::servers::{Failure, Servers};
use crate::answers::AnswerRow;
use crate::condition::{Condition, Way};
use crate::pipeline::{Context, PlanRecord, Protocol};
use crate::{Error, Result};

/// Questions that servers answer. The worker at hand counts tokens alone.
pub(super) struct Remote<'a> {
    pub(super) calls: Calls<'a>,
    pub(super) servers: &'a Servers,
    pub(super) cancel: &'a CancelToken,
}

/// Refuses conditions that are no handoff: the others look at a cache, which is the server's.
pub(super) fn check(conditions: &[Condition]) -> Result<()> {
    match conditions.iter().find(|condition| !matches!(condition.way, Way::Handoff(_))) {
        Some(other) => Err(other.refused("is no handoff; a server takes those alone")),
        None => Ok(()),
    }
}

impl Protocol for Remote<'_> {
    type Item = Log;
    type Row = AnswerRow;

    fn record(&self, logs: &[Log]) -> Result<Option<PlanRecord>> {
        self.calls.record(logs)
    }

    fn rows(&self, log: &Log, context: &Context<'_, AnswerRow>) -> Result<()> {
        let missing = self.calls.missing(log, context);
        if missing.is_empty() {
            return Ok(());
        }
        let rows = self.servers.on_one(self.cancel, |url| self.asked(url, log, &missing));
        match rows {
            Ok(rows) => rows.into_iter().try_for_each(|row| context.push(row)),
            Err(Error::Session(lb_session::Error::Cancelled)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Remote<'_> {
    /// The rows of a log, all from one server. The trajectory is deleted there whatever comes.
    fn asked(
        &self,
        url: &str,
        log: &Log,
        missing: &[(usize, String, &Condition)],
    ) -> std::result::Result<Vec<AnswerRow>, Failure> {
        let send = |method: &str, path: &str, body: &Value| {
            self.servers.send(method, &format!("{url}{path}"), body, self.cancel)
        };
        let segments: Vec<Segment> = log.episode.lines.iter().map(Segment::from).collect();
        let made = send("POST", "/v1/trajectories", &json!({ "segments": segments }))?;
        let id =
            made["id"].as_str().ok_or_else(|| Failure::Away("a trajectory without a name".to_owned()))?;
        let rows = missing.iter().map(|(number, item, condition)| {
            let question = log.episode.questions[*number].text.as_str();
            let begun = Instant::now();
            let reply = send(
                "POST",
                "/v1/chat/completions",
                &json!({
                    "messages": [{ "role": "user", "content": question }],
                    "max_tokens": self.calls.plan.answer_tokens,
                    "briefing": { "trajectory": id, "handoff": condition.name },
                }),
            )?;
            let cost = &reply["usage"]["latent_briefing"];
            let count = |name: &str| usize::try_from(cost[name].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
            let seconds = |name: &str| cost[name].as_f64().unwrap_or(0.0) / 1e3;
            let seq_len = count("seq_len");
            let blank = self.calls.blank(log, *number, item.clone(), seq_len);
            let answer = reply.pointer("/choices/0/message/content").and_then(Value::as_str);
            let answer = answer.ok_or_else(|| Failure::Away("an answer without a text".to_owned()))?;
            let generated = reply["usage"]["completion_tokens"].as_u64().unwrap_or(0);
            let (elapsed_s, brief_s) = (begun.elapsed().as_secs_f64(), seconds("brief_ms"));
            let prefill_s = (seconds("read_ms") - brief_s).max(0.0);
            Ok(AnswerRow {
                condition: condition.name.clone(),
                score: f64::from(answer.trim() == blank.expected),
                answer: answer.trim().to_owned(),
                worker: CallTokens {
                    attended: count("attended"),
                    prefilled: count("prefilled"),
                    reused: count("reused"),
                    generated: usize::try_from(generated).unwrap_or(usize::MAX),
                    ..CallTokens::default()
                },
                keep_ratio: Some((count("kept") as f64 / seq_len.max(1) as f64).min(1.0)),
                brief_s,
                prefill_s,
                decode_s: (elapsed_s - brief_s - prefill_s - seconds("waited_ms")).max(0.0),
                elapsed_s,
                ..blank
            })
        });
        let rows = rows.collect();
        // Where that fails the server is gone, or has a time to live of its own for what nobody uses.
        let _ = send("DELETE", &format!("/v1/trajectories/{id}"), &Value::Null);
        rows
    }
}
