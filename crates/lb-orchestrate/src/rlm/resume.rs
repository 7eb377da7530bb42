//! A run taken up from its log.

use std::path::Path;
use std::time::{Duration, Instant};

use lb_model::Worker;
use lb_sandbox::{Executed, Repl};
use lb_session::{Segment, Source};

use super::host::{Recorded, Texts};
use super::loop_state::count;
use super::sink::Sink;
use super::verdict::{Done, Taken};
use super::{PromptProfile, Question, Rlm, RlmConfig};
use crate::log::{BlockResult, CodeBlock, Entered, Iteration, RunLog, RunRecord, RunSettings};
use crate::{Error, Result};

/// A run as it was when its log ended.
#[derive(Debug)]
pub struct Resumed {
    /// The loop; [`Rlm::go_on`] goes on with the question that it was cut off at, if any.
    pub rlm: Rlm,
    /// The answer, where the last question was answered before the log ended.
    pub answer: Option<String>,
    /// Blocks of code that did something else when they ran again, because they depend on more than the record has:
    /// the time, chance. The variables are those of the second time.
    pub differing: usize,
    /// Bytes of a torn last line that were cut off.
    pub torn: usize,
}

/// Time that taking a run up again may take, where the run has no limit of its own.
const RERUN: Duration = Duration::from_hours(1);

/// When taking a run up again has to be over.
#[derive(Clone, Copy)]
struct Until {
    at: Instant,
    limit: Duration,
}

impl Until {
    fn check(self) -> Result<()> {
        let (what, limit) = ("taking the run up again", self.limit);
        if Instant::now() < self.at { Ok(()) } else { Err(Error::Timeout { what, limit }) }
    }
}

impl Rlm {
    /// Takes a run up from its log: the trajectory is read once more, and the code runs again with the replies that it got
    /// then, which brings the variables back; no model is called. New turns go to the same log. It may take as long as the
    /// run may, an hour where that has no limit.
    ///
    /// Handoff, limits and the rest are those of `config`; its `log_dir` is not used, and how replies are read
    /// (`profile`, `ask_first`, `brief_documents`) is as the log has it.
    ///
    /// # Errors
    /// [`Error::Log`] where the log or a document beside it cannot be read or is of another worker; those of
    /// [`new`](Self::new); [`Error::Cancelled`] and [`Error::Timeout`].
    pub fn resume(
        log: impl AsRef<Path>,
        worker: &Worker,
        open_repl: impl Fn() -> lb_sandbox::Result<Box<dyn Repl>> + Send + Sync + 'static,
        config: RlmConfig,
    ) -> Result<Resumed> {
        let lock = RunLog::lock(log.as_ref())?;
        let record = RunRecord::open(log)?;
        let made_with = &record.metadata.latent_briefing.worker;
        if made_with != worker.name() {
            let reason = format!("the run's worker is {made_with}, not {}", worker.name());
            return Err(Error::Log { path: record.path, line: Some(1), reason });
        }
        // How replies are read must not change under the turns that are there.
        let RunSettings { profile, ask_first, brief_documents, .. } = record.metadata.latent_briefing;
        let config = RlmConfig { log_dir: None, profile, ask_first, brief_documents, ..config };
        let limit = config.limits.run.time.map_or(RERUN, |time| time.min(RERUN));
        let until = Until { at: Instant::now() + limit, limit };
        let mut rlm = Self::new(worker, open_repl, config)?;
        for (_, text) in record.contexts()? {
            rlm.add_context(&text)?;
        }
        let mut differing = 0;
        for iteration in record.turns() {
            differing += rlm.again(iteration, until)?;
        }
        rlm.iterations = record.iterations.len();
        rlm.sink = Sink::File(RunLog::reopen(&record.path, record.whole, lock)?);
        rlm.begun = true;
        if rlm.question.is_none() {
            // Cut off before the first turn of a question was whole.
            let cut_off =
                record.iterations.last().filter(|i| i.stopped.is_some()).map(|i| i.question.as_str());
            let first =
                Some(record.metadata.latent_briefing.question.as_str()).filter(|_| rlm.messages.is_empty());
            if let Some(question) = cut_off.or(first) {
                rlm.open(question)?;
            }
        }
        let answer = record.answer().filter(|_| rlm.question.is_none()).map(str::to_owned);
        rlm.shared.since = Instant::now();
        Ok(Resumed { rlm, answer, differing, torn: record.torn })
    }

    /// Reads again what entered the trajectory in a recorded turn.
    fn enter_again(&mut self, entered: &[Entered], until: Until) -> Result<()> {
        let cancel = self.shared.config.cancel.clone();
        let worker = self.shared.session.worker().clone();
        for entered in entered {
            let segment = Segment::new(entered.source, entered.text.clone());
            let segment = match &entered.name {
                Some(name) => segment.named(name),
                None => segment,
            };
            let whole = Segment {
                text: entered.whole.clone().unwrap_or_else(|| entered.text.clone()),
                ..segment.clone()
            };
            self.contexts.was_read(&whole.text);
            self.shared.findings += usize::from(entered.source == Source::Finding);
            if self.shared.config.context.is_on() && self.shared.config.session.policy.admits(entered.source)
            {
                self.shared.manager.restore(&whole, entered.managed.as_ref(), &count(worker.tokenizer()));
            }
            if let Some((left, whole)) = entered.managed.as_ref().zip(entered.whole.as_ref())
                && let Some(name) = &left.pointer
            {
                self.shared.shelved.push((name.clone(), whole.clone()));
            }
            if segment.text.is_empty() {
                continue;
            }
            let mut goes_on = |_, _| !cancel.is_cancelled() && until.check().is_ok();
            let read = self.shared.session.extend_while([segment], &mut goes_on);
            let ended = || until.check().err().filter(|_| !cancel.is_cancelled());
            read.map_err(|error| ended().unwrap_or_else(|| error.into()))?;
        }
        Ok(())
    }

    /// Does a recorded turn again without any model; how many of its blocks did something else.
    fn again(&mut self, iteration: &Iteration, until: Until) -> Result<usize> {
        if self
            .question
            .as_ref()
            .is_none_or(|question| question.text != iteration.question || iteration.turn == 1)
        {
            // The last message of a standard prompt is its turn's.
            let last = iteration.prompt.len().saturating_sub(1);
            let standard = self.shared.config.profile == PromptProfile::Standard;
            let opened_at = last.saturating_sub(usize::from(standard));
            if self.opening == 0 {
                self.opening = opened_at + 1;
            }
            let text = iteration.question.clone();
            self.question = Some(Question { text, opened_at, ..Question::default() });
        }
        // The meter of the phases goes on with what each turn was begun with.
        self.look_at_phases();
        self.shared.books.recorded(iteration);
        self.messages.clone_from(&iteration.prompt);
        self.enter_again(&iteration.entered, until)?;
        for left in iteration.managed.iter().flat_map(|managed| &managed.left_out) {
            if let (Some(name), Some(message)) = (&left.pointer, iteration.prompt.get(left.index)) {
                self.shared.shelved.push((name.clone(), message.content.clone()));
            }
        }
        self.shelve()?;
        let (mut differing, mut ran) = (0, Vec::new());
        for block in &iteration.code_blocks {
            let result = &block.result;
            let mut host = Recorded {
                shared: &mut self.shared,
                replies: result.rlm_calls.iter().collect(),
                unknown: 0,
                entered: &iteration.entered,
                deadline: until.at,
                texts: Texts::default(),
            };
            let executed = self.repl.execute(&block.code, &mut host)?;
            let other = host.unknown > 0 || !host.replies.is_empty() || executed.stdout != result.stdout;
            self.shared.cancelled()?;
            until.check()?;
            differing += usize::from(other);
            self.partial(Some(&result.answer), "");
            ran.push(recorded(block));
        }
        self.settle(iteration.code_blocks.iter().map(|block| &block.result));
        self.partial(None, &iteration.response);
        let last = ran.last().map(|ran: &Executed| ran.answer.clone());
        self.partial(last.as_ref(), "");
        if iteration.final_answer.is_none() {
            let Taken { reply, kept } = self.take_apart(&iteration.response, &iteration.finish);
            let calls = iteration.code_blocks.iter().map(|block| block.result.rlm_calls.len()).sum();
            let (finish, ran) = (&iteration.finish, &ran[..]);
            let mut done = Done { reply: &reply, finish, ran, calls, refused: None };
            if let Some(answer) = self.answer_of(&done)? {
                done.refused = self.refuses(&answer, calls);
                self.clear_answer()?;
            }
            let (told, _) = self.told(&done);
            self.remember(&done);
            self.reply(&kept, told);
            if let Some(question) = &mut self.question {
                question.turns = iteration.turn;
            }
        } else {
            self.said(&iteration.response);
            self.question = None;
        }
        Ok(differing)
    }
}

/// What a block did, as far as the record has it.
fn recorded(block: &CodeBlock) -> Executed {
    let BlockResult { stdout, stderr, locals, fault, answer, rlm_calls, execution_time, .. } =
        block.result.clone();
    let elapsed = Duration::try_from_secs_f64(execution_time).unwrap_or_default();
    Executed { stdout, stderr, fault, locals, answer, elapsed, calls: rlm_calls.len() }
}
