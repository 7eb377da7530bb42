//! A run as plain text, for a terminal.

use lb_orchestrate::{CodeBlock, Iteration, Reply, RunLedger, RunRecord, WorkerCall};

use super::figures::{bytes, count, seconds};
use super::turn_view::median_kept;
use super::visible::short;

/// Lines that are shown of a block of code, and of what it printed.
const CODE_LINES: usize = 6;
const OUTPUT_LINES: usize = 4;
/// Calls that are shown of a block.
const CALLS: usize = 12;

/// A run turn by turn, in lines of at most `width` characters (40 at the least): what was said, what ran, what it printed,
/// each call with its answer and how much of the trajectory its briefing kept; at the end the answer and what it all cost.
/// Characters that would act on a terminal are shown by name.
pub fn trace(record: &RunRecord, width: usize) -> String {
    let mut trace = Trace { out: String::new(), width: width.clamp(40, 400), depth: 0, ratios: Vec::new() };
    trace.line("", "Question: ", &record.metadata.latent_briefing.question);
    trace.turns(&record.iterations, &record.metadata.latent_briefing.question);
    trace.out.push('\n');
    trace.totals(record);
    trace.out
}

struct Trace {
    out: String,
    width: usize,
    /// Of recursion.
    depth: usize,
    ratios: Vec<f64>,
}

impl Trace {
    /// One line that begins with `mark`, cut to the width.
    fn line(&mut self, indent: &str, mark: &str, text: &str) {
        let before = format!("{}{indent}{mark}", "    ".repeat(self.depth.min(8)));
        let left = self.width.saturating_sub(before.chars().count()).max(16);
        let line = format!("{before}{}", short(text, left));
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// The first lines of a text, as they are indented.
    fn lines(&mut self, mark: &str, text: &str, most: usize) {
        let all = text.trim_end().lines().count();
        for line in text.trim_end().lines().take(most) {
            let spaces = line.chars().take_while(|c| c.is_whitespace()).take(24).count();
            self.line("  ", &format!("{mark}{}", " ".repeat(spaces)), line);
        }
        if all > most {
            self.line("  ", mark, &format!("… {} more", count_of(all - most, "line")));
        }
    }

    fn turns(&mut self, iterations: &[Iteration], first: &str) {
        let mut question = first;
        for iteration in iterations {
            if iteration.question != question {
                question = &iteration.question;
                self.out.push('\n');
                self.line("", "Question: ", question);
            }
            self.turn(iteration);
        }
    }

    fn turn(&mut self, iteration: &Iteration) {
        let usage = &iteration.usage;
        let name = match iteration.turn {
            0 => "Last completion".to_owned(),
            turn => format!("Turn {}", count(turn)),
        };
        let cost = format!(
            "{}, {} tokens in, {} out",
            seconds(iteration.iteration_time),
            count(usage.input),
            count(usage.output)
        );
        self.out.push('\n');
        self.line("", &format!("{name}  "), &format!("({cost})"));
        let prose = Reply::parse(&iteration.response).prose;
        if !prose.trim().is_empty() {
            self.line("  ", "", &prose);
        }
        iteration.code_blocks.iter().for_each(|block| self.block(block));
        if let Some(why) = &iteration.stopped {
            self.line("  ", "stopped: ", why);
        }
        if let Some(partial) = &iteration.partial_answer {
            self.line("  ", "so far: ", partial);
        }
        if let Some(answer) = &iteration.final_answer {
            self.line("  ", "answer: ", answer);
        }
    }

    fn block(&mut self, block: &CodeBlock) {
        let result = &block.result;
        self.lines("> ", &block.code, CODE_LINES);
        result.rlm_calls.iter().take(CALLS).for_each(|call| self.call(call));
        if let Some(left) = result.rlm_calls.get(CALLS..).filter(|left| !left.is_empty()) {
            self.ratios
                .extend(left.iter().filter_map(|call| call.briefing.as_ref()).map(|map| map.keep_ratio));
            self.line("  ", "? ", &format!("… {} more", count_of(left.len(), "call")));
        }
        self.lines("| ", &result.stdout, OUTPUT_LINES);
        if !result.stderr.trim().is_empty() || result.fault.is_some() {
            self.line("  ", "! ", &result.stderr);
        }
    }

    fn call(&mut self, call: &WorkerCall) {
        self.line("  ", "? ", &call.query.prompt);
        if let Some(child) = &call.metadata {
            self.depth += 1;
            self.turns(&child.iterations, &call.query.prompt);
            self.depth -= 1;
        }
        let kept = call.briefing.as_ref().map(|map| {
            self.ratios.push(map.keep_ratio);
            format!("kept {} of {} positions, ", count(map.kept_len), count(map.seq_len))
        });
        let cost = format!("  ({}{})", kept.unwrap_or_default(), seconds(call.execution_time));
        let room = self.width.saturating_sub(cost.chars().count() + 4 + 4 * self.depth.min(8)).max(16);
        self.line("  ", "= ", &format!("{}{cost}", short(&call.response, room)));
    }

    fn totals(&mut self, record: &RunRecord) {
        let ledger = RunLedger::of(record);
        match (record.answer(), record.iterations.last()) {
            (Some(answer), _) => self.line("", "Answer: ", answer),
            (None, Some(last)) => {
                let why = last.stopped.as_deref().unwrap_or("the log ends");
                self.line("", "No answer: ", why);
            }
            (None, None) => self.line("", "No answer: ", "the log ends before the first turn"),
        }
        for (name, value) in self.rows(&ledger) {
            self.line("", &format!("{name:<14}"), &value);
        }
    }

    /// What the run cost, name by name.
    fn rows(&self, ledger: &RunLedger) -> Vec<(&'static str, String)> {
        let (asked, worker, tokens) = (&ledger.orchestrator, &ledger.worker, &ledger.worker.tokens);
        let failed =
            if worker.failed > 0 { format!(", {} failed", count(worker.failed)) } else { String::new() };
        let kept =
            median_kept(&self.ratios).map(|median| format!(", {median} of the trajectory kept (median)"));
        let mut rows = vec![
            ("turns", count(asked.turns)),
            ("worker calls", format!("{}{failed}{}", count(worker.calls), kept.unwrap_or_default())),
            (
                "orchestrator",
                format!(
                    "{} tokens in ({} cached), {} out, {}",
                    count(asked.usage.input),
                    count(asked.usage.cached),
                    count(asked.usage.output),
                    seconds(asked.seconds)
                ),
            ),
            (
                "worker",
                format!(
                    "{} tokens attended, {} prefilled, {} reused, {} generated",
                    count(tokens.attended),
                    count(tokens.prefilled),
                    count(tokens.reused),
                    count(tokens.generated)
                ),
            ),
            (
                "trajectory",
                format!(
                    "{} tokens read once, {}",
                    count(worker.trajectory_prefilled),
                    seconds(worker.trajectory_s)
                ),
            ),
            (
                "time",
                format!(
                    "{}; worker: prompts {}, briefings {}, answers {}",
                    seconds(ledger.elapsed_s),
                    seconds(worker.prefill_s),
                    seconds(worker.brief_s),
                    seconds(worker.decode_s)
                ),
            ),
        ];
        if worker.peak_cache_bytes > 0 {
            rows.push(("largest cache", bytes(worker.peak_cache_bytes)));
        }
        rows
    }
}

fn count_of(n: usize, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}
