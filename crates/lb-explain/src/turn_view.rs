//! The turns of a run as the page shows them.

use std::collections::BTreeMap;

use lb_orchestrate::{BlockResult, CodeBlock, Finish, Iteration, Metadata, Reply};
use lb_session::Source;
use minijinja::{Environment, Value};
use serde::Serialize;

use super::call_view::CallView;
use super::figures::{count, percent, sane, seconds};
use super::map_view::Strip;
use super::python::{Stretch, colour};
use super::seen::Path;
use super::visible::{clip, short};
use crate::{Error, Result};

/// Characters that are shown of a text of the orchestrator or of its code's output.
const TEXT: usize = 20_000;
/// Characters that are shown of a prompt or a reply.
pub(super) const PROMPT: usize = 8_000;
/// Variables, and segments that entered, that are shown of a block or a turn.
const MOST: usize = 60;

/// What all runs of a page share.
pub(super) struct Page {
    pub(super) templates: Environment<'static>,
    /// Positions whose maps still have room.
    pub(super) room: usize,
    /// Calls so far.
    pub(super) calls: usize,
    /// Trajectories that have maps, as the script reads them.
    pub(super) trajectories: Vec<String>,
    /// Kept / original of every briefing.
    pub(super) ratios: Vec<f64>,
}

/// A run, or a loop within one.
#[derive(Debug, Serialize)]
pub(super) struct RunView {
    pub(super) turns: Vec<TurnView>,
    pub(super) rows: Vec<Row>,
}

/// A briefing among those of its run.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) call: usize,
    pub(super) what: String,
    pub(super) positions: usize,
    pub(super) strip: Strip,
}

#[derive(Debug, Serialize)]
pub(super) struct TurnView {
    pub(super) id: String,
    pub(super) name: String,
    /// The question, where another one begins with this turn.
    pub(super) opens: Option<String>,
    pub(super) time: Time,
    pub(super) seconds: String,
    pub(super) usage: String,
    pub(super) thoughts: Option<String>,
    pub(super) prose: String,
    pub(super) blocks: Vec<BlockView>,
    /// Code that was written and did not run.
    pub(super) idle: Vec<Vec<Stretch>>,
    pub(super) notices: Vec<String>,
    pub(super) entered: Vec<Chip>,
    pub(super) more_entered: usize,
    pub(super) answer: Option<String>,
    pub(super) stopped: Option<String>,
    pub(super) partial: Option<String>,
}

/// Seconds of a turn by who worked, recursive queries counted in.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Time {
    pub(super) whole: f64,
    pub(super) orchestrator: f64,
    pub(super) code: f64,
    /// Calls, and what entered the trajectory.
    pub(super) worker: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Chip {
    source: &'static str,
    tokens: String,
    out: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct BlockView {
    code: Vec<Stretch>,
    stdout: String,
    stderr: String,
    fault: Option<String>,
    locals: Vec<(String, String)>,
    calls: Vec<CallView>,
    seconds: String,
}

impl Page {
    /// The turns of a run; `prefix` keeps the names of nested ones apart.
    ///
    /// # Errors
    /// [`Error::Page`] should a template fail.
    pub(super) fn run(
        &mut self,
        metadata: &Metadata,
        iterations: &[Iteration],
        prefix: &str,
    ) -> Result<RunView> {
        let head = &metadata.latent_briefing.head;
        let trajectory = self.trajectories.len();
        self.trajectories.push(String::new());
        let mut path = Path::new(head.len());
        let mut rows = Vec::new();
        let mut question = metadata.latent_briefing.question.as_str();
        let mut turns = Vec::with_capacity(iterations.len());
        for iteration in iterations {
            let id = format!("{prefix}{}", iteration.iteration);
            let all = iteration.code_blocks.iter().map(|block| block.result.rlm_calls.len()).sum();
            let knew = path.turn(iteration, all);
            let mut of_run = OfRun { head, path: &mut path, rows: &mut rows, trajectory };
            let mut turn = self.turn(iteration, &id, &knew, &mut of_run)?;
            if iteration.question != question {
                question = &iteration.question;
                turn.opens = Some(clip(question, PROMPT));
            }
            turns.push(turn);
        }
        self.trajectories[trajectory] = if rows.is_empty() { String::new() } else { tokens(head, &path) };
        Ok(RunView { turns, rows })
    }

    fn turn(
        &mut self,
        it: &Iteration,
        id: &str,
        knew: &[usize],
        run: &mut OfRun<'_, '_>,
    ) -> Result<TurnView> {
        let reply = Reply::parse(&it.response);
        let time = time(it);
        let mut knew = knew.iter().copied();
        let blocks = it
            .code_blocks
            .iter()
            .map(|block| self.block(block, id, &mut knew, run))
            .collect::<Result<_>>()?;
        let code = |code: &String| colour(&clip(code, TEXT));
        let chips = it.entered.iter().take(MOST).map(|entered| Chip {
            source: entered.source.tag(),
            tokens: count(entered.pieces.len()),
            out: entered.pieces.is_empty(),
        });
        Ok(TurnView {
            id: id.to_owned(),
            name: name(it),
            opens: None,
            time,
            seconds: seconds(time.whole),
            usage: usage(it),
            thoughts: it.reasoning.as_deref().filter(|text| !text.trim().is_empty()).map(|t| clip(t, TEXT)),
            prose: clip(&reply.prose, TEXT),
            blocks,
            idle: reply.blocks.iter().skip(it.code_blocks.len()).map(code).collect(),
            notices: notices(&reply, it),
            entered: chips.collect(),
            more_entered: it.entered.len().saturating_sub(MOST),
            answer: it.final_answer.as_deref().map(|answer| clip(answer, TEXT)),
            stopped: it.stopped.as_deref().map(|why| clip(why, PROMPT)),
            partial: it.partial_answer.as_deref().map(|partial| clip(partial, PROMPT)),
        })
    }

    fn block(
        &mut self,
        block: &CodeBlock,
        id: &str,
        knew: &mut impl Iterator<Item = usize>,
        run: &mut OfRun<'_, '_>,
    ) -> Result<BlockView> {
        let BlockResult { stdout, stderr, locals, execution_time, rlm_calls, fault, .. } = &block.result;
        let calls = rlm_calls
            .iter()
            .map(|call| self.call(call, id, knew.next().unwrap_or(0), run))
            .collect::<Result<_>>()?;
        Ok(BlockView {
            code: colour(&clip(&block.code, TEXT)),
            stdout: clip(stdout.trim_end(), TEXT),
            stderr: clip(stderr.trim_end(), TEXT),
            fault: fault.map(|fault| format!("{fault:?}").to_lowercase()),
            locals: shown(locals),
            calls,
            seconds: seconds(*execution_time),
        })
    }

    /// One of the page's templates.
    pub(super) fn render(&self, name: &str, view: impl Into<Value>) -> Result<String> {
        let page = self.templates.get_template(name).and_then(|template| template.render(view));
        page.map_err(|e| Error::Page(Box::new(e)))
    }
}

/// What the calls of one run share.
pub(super) struct OfRun<'r, 'a> {
    pub(super) head: &'a [String],
    pub(super) path: &'r mut Path<'a>,
    pub(super) rows: &'r mut Vec<Row>,
    pub(super) trajectory: usize,
}

impl TurnView {
    /// Whether something went wrong in it.
    pub(super) fn troubled(&self) -> bool {
        let failed = |block: &BlockView| block.fault.is_some() || block.calls.iter().any(CallView::failed);
        self.stopped.is_some() || self.blocks.iter().any(failed)
    }
}

fn name(it: &Iteration) -> String {
    if it.turn == 0 { "Last completion".to_owned() } else { format!("Turn {}", count(it.turn)) }
}

fn usage(it: &Iteration) -> String {
    let usage = &it.usage;
    let cached = if usage.cached > 0 { format!(" ({} cached)", count(usage.cached)) } else { String::new() };
    let thought = if usage.reasoning > 0 {
        format!(" ({} of thoughts)", count(usage.reasoning))
    } else {
        String::new()
    };
    format!("{} tokens in{cached}, {} out{thought}", count(usage.input), count(usage.output))
}

fn notices(reply: &Reply, it: &Iteration) -> Vec<String> {
    let mut notices = Vec::new();
    match &it.finish {
        Finish::Stop => {}
        Finish::Length => notices.push("The reply came to its limit of tokens.".to_owned()),
        Finish::Other(why) => {
            notices.push(format!("The reply ended for another reason: {}", short(why, 200)));
        }
        other => notices.push(format!("The reply ended for another reason: {other:?}")),
    }
    if reply.unclosed {
        notices.push("A block of code was opened and never closed; it did not run.".to_owned());
    }
    notices
}

fn shown(locals: &BTreeMap<String, String>) -> Vec<(String, String)> {
    locals.iter().take(MOST).map(|(name, value)| (short(name, 80), clip(value, 400))).collect()
}

/// Who worked how long.
fn time(it: &Iteration) -> Time {
    let mut time =
        Time { whole: sane(it.iteration_time), orchestrator: sane(it.completion_time), ..Time::default() };
    let (mut in_blocks, mut inside): (f64, f64) = (0.0, 0.0);
    for entered in &it.entered {
        let read = sane(entered.seconds);
        time.worker += read;
        // These enter while the code runs.
        inside += if matches!(entered.source, Source::Reply | Source::Finding) { read } else { 0.0 };
    }
    for block in &it.code_blocks {
        in_blocks += sane(block.result.execution_time);
        for call in &block.result.rlm_calls {
            inside += sane(call.execution_time);
            match &call.metadata {
                None => time.worker += sane(call.execution_time),
                Some(child) => {
                    for part in child.iterations.iter().map(self::time) {
                        time.orchestrator += part.orchestrator;
                        time.code += part.code;
                        time.worker += part.worker;
                    }
                }
            }
        }
    }
    time.code += (in_blocks - inside).max(0.0);
    time
}

/// The tokens of a trajectory as the script reads them, safe inside of a page's script element.
fn tokens(head: &[String], path: &Path<'_>) -> String {
    let visible = |pieces: &[String]| pieces.iter().map(|p| super::visible::visible(p)).collect::<Vec<_>>();
    let segments: Vec<_> =
        path.entered().iter().map(|entered| (entered.source.tag(), visible(&entered.pieces))).collect();
    let data = serde_json::json!({ "head": visible(head), "segments": segments }).to_string();
    data.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

impl std::ops::AddAssign for Time {
    fn add_assign(&mut self, other: Self) {
        self.whole += other.whole;
        self.orchestrator += other.orchestrator;
        self.code += other.code;
        self.worker += other.worker;
    }
}

/// How much of a run's positions its briefings kept, the middle one of them.
pub(super) fn median_kept(ratios: &[f64]) -> Option<String> {
    super::figures::median(ratios.to_vec()).map(percent)
}
