//! A job's turn: its input is read, and its answers join those under way.

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_model::{KvCache, PrefillOptions};
use lb_session::{
    BriefConfig, Briefing, CallTokens, Handoff, HandoffKind, OpenSession, Segment, Snapshot, Task,
};

use super::answer::{Ready, Running};
use super::{Event, Finish, Job, Spoken, Usage, Work};
use crate::Refusal;
use crate::trajectories::Trajectory;

/// Tokens of a pass while answers wait for it, and while none do.
const CHUNK: usize = 128;
const CHUNK_ALONE: usize = 512;

/// Carries out what can be carried out at once, and takes up the answers of the rest.
pub(super) fn begin(running: &mut Running<'_>, job: &Job) {
    let _request = job.span.enter();
    if let Err(refusal) = alive(job).and_then(|()| carried_out(running, job)) {
        running.metrics.refusals.inc();
        job.tell(Event::Refused(refusal));
    }
}

fn carried_out(running: &mut Running<'_>, job: &Job) -> Result<(), Refusal> {
    let start = Instant::now();
    match &job.work {
        Work::Complete { prompt, spoken } => complete(running, job, prompt, spoken, start),
        Work::Ask { trajectory, task, handoff, spoken } => {
            ask(running, job, (trajectory, task, handoff), spoken, start)
        }
        Work::Over { briefing, task, spoken } => over(running, job, &briefing.file, task, spoken, start),
        Work::Brief { trajectory, task, config, file } => {
            brief(running, job, trajectory, (task, config, file), start)
        }
        Work::Extend { trajectory, segments } => extend(running, job, trajectory, segments.clone()),
        Work::Open { trajectory } => {
            trajectory.with(running.worker, &mut goes_on(running, job), |_| Ok(()))?;
            done(job, Vec::new());
            Ok(())
        }
        Work::Fork { from, into } => {
            let fork = from.with(running.worker, &mut goes_on(running, job), |session| Ok(session.fork()))?;
            into.put(fork);
            done(job, Vec::new());
            Ok(())
        }
        Work::Rest { trajectory } => {
            trajectory.rest()?;
            done(job, Vec::new());
            Ok(())
        }
    }
}

fn done(job: &Job, entered: Vec<(usize, usize)>) {
    job.tell(Event::Done { entered });
}

/// Asked after each pass: the others get a token, and the job is looked at.
fn goes_on<'a, 'w>(running: &'a mut Running<'w>, job: &'a Job) -> impl FnMut() -> bool + use<'a, 'w> {
    move || {
        running.step();
        alive(job).is_ok()
    }
}

fn alive(job: &Job) -> Result<(), Refusal> {
    if job.cancel.is_cancelled() {
        Err(Refusal::Cancelled)
    } else if Instant::now() >= job.until {
        Err(Refusal::Deadline(job.allowed))
    } else {
        Ok(())
    }
}

/// Reads `tokens` behind `cache`; the logits of the last one.
fn read(
    running: &mut Running<'_>,
    job: &Job,
    tokens: &[u32],
    cache: &mut KvCache,
) -> Result<Tensor, Refusal> {
    let _span = tracing::info_span!("read", tokens = tokens.len()).entered();
    let chunk = if running.is_empty() { CHUNK_ALONE } else { CHUNK };
    let model = running.worker.model();
    running.metrics.prefilled.inc_by(tokens.len() as u64);
    let mut goes_on = goes_on(running, job);
    let read =
        model.prefill_batch_while(&[tokens], &mut [cache], &PrefillOptions { chunk }, &mut |_, _| goes_on());
    let interrupted = |error: lb_model::Error| match Refusal::from(error) {
        Refusal::Cancelled => alive(job).err().unwrap_or(Refusal::Cancelled),
        other => other,
    };
    let mut read = read.map_err(interrupted)?;
    read.pop().ok_or_else(|| Refusal::Internal("nothing was read".to_owned()))
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn waited(job: &Job, start: Instant) -> f64 {
    let begun = job.until.checked_sub(job.allowed).unwrap_or(start);
    start.saturating_duration_since(begun).as_secs_f64() * 1e3
}

/// What a call over a trajectory cost, with the positions that there were and those that stayed.
fn cost(
    job: &Job,
    start: Instant,
    handoff: HandoffKind,
    tokens: CallTokens,
    (seq_len, kept): (usize, usize),
    brief: Duration,
) -> Usage {
    Usage {
        handoff: handoff.name().to_owned(),
        attended: tokens.attended,
        prefilled: tokens.prefilled,
        reused: tokens.reused,
        seq_len,
        kept,
        brief_ms: brief.as_secs_f64() * 1e3,
        read_ms: ms(start),
        waited_ms: waited(job, start),
    }
}

fn complete(
    running: &mut Running<'_>,
    job: &Job,
    prompt: &[u32],
    spoken: &Spoken,
    start: Instant,
) -> Result<(), Refusal> {
    if prompt.is_empty() {
        return Err(Refusal::field("prompt", "has no tokens"));
    }
    let known = running.prefixes.longest(&job.tenant, prompt);
    let mut cache = known.unwrap_or_else(|| running.worker.model().new_cache());
    let reused = cache.logical_len();
    let logits = read(running, job, &prompt[reused..], &mut cache)?;
    running.metrics.reused.inc_by(reused as u64);
    running.prefixes.keep(&job.tenant, prompt.to_vec(), cache.fork());
    let usage = Usage {
        handoff: "prompt".to_owned(),
        attended: prompt.len(),
        prefilled: prompt.len() - reused,
        reused,
        seq_len: prompt.len(),
        kept: prompt.len(),
        brief_ms: 0.0,
        read_ms: ms(start),
        waited_ms: waited(job, start),
    };
    running.metrics.first_token.observe(usage.read_ms / 1e3);
    job.tell(Event::Begun(Box::new(usage)));
    let ready = Ready {
        cache,
        logits,
        texts: vec![prompt.to_vec()],
        draft: Vec::new(),
        prompt: Some(prompt.to_vec()),
    };
    running.join(job, spoken, ready)
}

fn ask(
    running: &mut Running<'_>,
    job: &Job,
    (trajectory, task, handoff): (&Trajectory, &Task, &Handoff),
    spoken: &Spoken,
    start: Instant,
) -> Result<(), Refusal> {
    let worker = running.worker;
    let snapshot = trajectory.with(worker, &mut goes_on(running, job), |session| Ok(session.snapshot()))?;
    if let Handoff::RenewedBriefing(_) = handoff {
        return renewed(running, job, (trajectory, &snapshot), (task, handoff), spoken, start);
    }
    let asked = snapshot.ask(task).via(handoff).deadline(job.until).cancelled_by(&job.cancel);
    let prepared = {
        let _span = tracing::info_span!("hand over", handoff = handoff.name()).entered();
        asked.prepare().map_err(|error| explained(job, error))?
    };
    let mut cache = prepared.cache;
    let mut prompt = prepared.prompt;
    prompt.extend(&spoken.written);
    let logits = match prepared.logits.filter(|_| prompt.is_empty()) {
        Some(logits) => logits,
        None => read(running, job, &prompt, &mut cache)?,
    };
    let positions = (prepared.seq_len, prepared.kept_len);
    let tokens = gone_on(prepared.tokens, spoken);
    let usage = cost(job, start, prepared.handoff, tokens, positions, prepared.brief);
    running.metrics.briefed(&usage);
    trajectory.called(&usage, prepared.briefing.as_ref(), &task.question, snapshot.tokens());
    job.tell(Event::Begun(Box::new(usage)));
    let texts = vec![snapshot.tokens().to_vec(), prompt];
    let draft = if spoken.written.is_empty() { prepared.draft } else { Vec::new() };
    running.join(job, spoken, Ready { cache, logits, texts, draft, prompt: None })
}

/// With what is read of an answer that is gone on with.
fn gone_on(tokens: CallTokens, spoken: &Spoken) -> CallTokens {
    let written = spoken.written.len();
    CallTokens { attended: tokens.attended + written, prefilled: tokens.prefilled + written, ..tokens }
}

/// An answer over a briefing from elsewhere; the trajectory is not needed.
fn over(
    running: &mut Running<'_>,
    job: &Job,
    file: &Path,
    task: &Task,
    spoken: &Spoken,
    start: Instant,
) -> Result<(), Refusal> {
    let worker = running.worker;
    let briefing = Briefing::load(worker, file).map_err(|error| Refusal::Store(error.to_string()))?;
    let snapshot = worker.session()?.snapshot();
    let asked = snapshot.ask(task).over(&briefing).deadline(job.until).cancelled_by(&job.cancel);
    let prepared = asked.prepare().map_err(|error| explained(job, error))?;
    let mut cache = prepared.cache;
    let (asked, mut prompt) = (prepared.prompt.len(), prepared.prompt);
    prompt.extend(&spoken.written);
    let logits = read(running, job, &prompt, &mut cache)?;
    // The passes that made it were another call's.
    let tokens = gone_on(CallTokens { prefilled: asked, ..prepared.tokens }, spoken);
    let positions = (prepared.seq_len, prepared.kept_len);
    let usage = cost(job, start, prepared.handoff, tokens, positions, Duration::ZERO);
    running.metrics.briefed(&usage);
    job.tell(Event::Begun(Box::new(usage)));
    let draft = if spoken.written.is_empty() { prepared.draft } else { Vec::new() };
    running.join(job, spoken, Ready { cache, logits, texts: vec![prompt], draft, prompt: None })
}

/// A briefing for whoever fetches it.
fn brief(
    running: &mut Running<'_>,
    job: &Job,
    trajectory: &Trajectory,
    (task, config, file): (&Task, &BriefConfig, &Path),
    start: Instant,
) -> Result<(), Refusal> {
    let worker = running.worker;
    let snapshot = trajectory.with(worker, &mut goes_on(running, job), |session| Ok(session.snapshot()))?;
    let asked = snapshot.ask(task).via(config.clone()).deadline(job.until).cancelled_by(&job.cancel);
    let prepared = asked.prepare().map_err(|error| explained(job, error))?;
    let Some(briefing) = prepared.briefing else {
        return Err(Refusal::Internal("a briefing without a briefing".to_owned()));
    };
    let brief = start.elapsed();
    briefing.save(worker, file)?;
    let tokens = CallTokens { attended: briefing.cache().mean_slots(), ..CallTokens::default() };
    let positions = (briefing.seq_len(), briefing.kept_len());
    let usage = cost(job, start, prepared.handoff, tokens, positions, brief);
    job.tell(Event::Made(Box::new(usage)));
    Ok(())
}

/// An answer whose briefing is renewed while it is written: it has the thread for itself, and the others get a token after each of its.
fn renewed(
    running: &mut Running<'_>,
    job: &Job,
    (trajectory, snapshot): (&Trajectory, &Snapshot),
    (task, handoff): (&Task, &Handoff),
    spoken: &Spoken,
    start: Instant,
) -> Result<(), Refusal> {
    if spoken.choices > 1 || spoken.log_probs.is_some() {
        let reason = "a renewed briefing has one answer and no log-probabilities";
        return Err(Refusal::unsupported("briefing.handoff", reason));
    }
    if spoken.by_number {
        return Err(Refusal::unsupported("briefing.handoff", "a renewed briefing tells no tokens by number"));
    }
    let mut stops = super::stops::Stops::new(spoken.stops.clone());
    let tell = |text: String| {
        let event = Event::Text { choice: 0, text, tokens: Vec::new(), ids: Vec::new() };
        job.events.send(event).is_ok()
    };
    let answered = {
        let mut goes_on = goes_on(running, job);
        let asked = snapshot.ask(task).via(handoff).generating(spoken.options.clone());
        let asked =
            asked.at_most(spoken.options.max_new_tokens).deadline(job.until).cancelled_by(&job.cancel);
        let heard = |text: &str| {
            let text = stops.push(text);
            let heard = text.is_empty() || tell(text);
            goes_on() && heard && stops.hit.is_none()
        };
        asked.stream(heard).run().map_err(|error| explained(job, error))?
    };
    let tokens = answered.answer.tokens;
    let positions = (answered.record.seq_len, answered.kept_len);
    let usage = cost(job, start, handoff.kind(), tokens, positions, answered.brief);
    running.metrics.briefed(&usage);
    running.metrics.generated.inc_by(tokens.generated as u64);
    trajectory.called(&usage, answered.briefing.as_ref(), &task.question, snapshot.tokens());
    let finish = Finish::of(stops.hit.take(), answered.answer.stopped);
    let rest = stops.rest();
    if !rest.is_empty() && !matches!(finish, Finish::Stop(_)) {
        tell(rest);
    }
    job.tell(Event::Begun(Box::new(usage)));
    job.tell(Event::Ended { choice: 0, finish, generated: tokens.generated });
    Ok(())
}

fn extend(
    running: &mut Running<'_>,
    job: &Job,
    trajectory: &Trajectory,
    segments: Vec<Segment>,
) -> Result<(), Refusal> {
    let worker = running.worker;
    let before = running.metrics.prefilled.clone();
    let _span = tracing::info_span!("extend", segments = segments.len()).entered();
    let mut goes_on = goes_on(running, job);
    // Whoever needs it opens it; the segments are read behind it.
    trajectory.with(worker, &mut goes_on, |_| Ok(()))?;
    let entered = trajectory.extend(segments, &mut goes_on).map_err(|error| explained(job, error))?;
    before.inc_by(entered.iter().map(|(entered, _)| *entered as u64).sum());
    done(job, entered);
    Ok(())
}

/// What ended a call is told by its deadline.
fn explained(job: &Job, error: lb_session::Error) -> Refusal {
    match Refusal::from(error) {
        Refusal::Cancelled => alive(job).err().unwrap_or(Refusal::Cancelled),
        Refusal::Deadline(_) => Refusal::Deadline(job.allowed),
        other => other,
    }
}
