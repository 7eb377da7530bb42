//! How fast a worker reads, writes and is briefed here.

use std::time::{Duration, Instant};

use lb_am::Compaction;
use lb_eval::episodes::{Episode, EpisodeConfig, Line};
use lb_model::Worker;
use lb_session::{OpenSession, Segment, WorkerSession};
use serde_json::json;

use super::Finding;
use crate::Result;
use crate::worker::WorkerArgs;

/// Of reading and of writing, each.
const SHARE: Duration = Duration::from_secs(3);
/// Lines that are read to find out how many can be read in that time.
const PROBE: usize = 6;
/// Tokens that are written between two looks at the clock.
const WRITTEN: usize = 8;

pub(super) fn measured(args: &WorkerArgs) -> Finding {
    match args.load().map_err(Into::into).and_then(|worker| measure(&worker)) {
        Ok(finding) => finding,
        Err(error) => Finding::failed("speed", error.to_string()),
    }
}

fn measure(worker: &Worker) -> Result<Finding> {
    let episode = Episode::generate(1, &EpisodeConfig::held_out((1000, 1080), 1))?;
    let (mut session, mut read) = reading(worker, &episode.lines[..PROBE.min(episode.lines.len())])?;
    let room = (worker.config().position_limit() / 2).saturating_sub(session.seq_len());
    let most = (read.per_second() * SHARE.as_secs_f64()).min(room as f64);
    let lines = most / session.seq_len() as f64 * PROBE as f64;
    if lines > PROBE as f64 {
        (session, read) = reading(worker, &episode.lines[..(lines as usize).min(episode.lines.len())])?;
    }
    let briefing = session.brief(episode.questions[0].text.as_str(), Compaction::keep_ratio(0.1))?;
    let compaction_ms = briefing.timing().compaction.as_secs_f64() * 1e3;
    let written = decode(worker, &session)?;
    let said = format!(
        "{}: reads {:.0} tokens/s, writes {:.0} tokens/s behind {} positions; a tenth of them chosen and corrected in {compaction_ms:.1} ms",
        worker.name(),
        read.per_second(),
        written.per_second(),
        briefing.seq_len(),
    );
    Ok(Finding::ok(
        "speed",
        said,
        json!({
            "worker": worker.name(),
            "prefill_per_s": read.per_second(),
            "decode_per_s": written.per_second(),
            "positions": briefing.seq_len(),
            "compaction_ms": compaction_ms,
        }),
    ))
}

/// A session that has read these lines, and how fast.
fn reading(worker: &Worker, lines: &[Line]) -> Result<(WorkerSession, Rate)> {
    let mut session = worker.session()?;
    let (start, before) = (Instant::now(), session.seq_len());
    session.extend_all(lines.iter().map(Segment::from), &mut |_, _| {})?;
    let rate = Rate { tokens: session.seq_len() - before, time: start.elapsed() };
    Ok((session, rate))
}

/// One token after another behind the session's cache, whatever they say.
fn decode(worker: &Worker, session: &WorkerSession) -> Result<Rate> {
    let token = *session.tokens().last().ok_or("the session is empty")?;
    let mut rate = Rate::default();
    while rate.time < SHARE {
        let mut cache = session.cache().fork();
        let start = Instant::now();
        for _ in 0..WRITTEN {
            worker.model().forward(&[token], &mut cache)?;
        }
        rate.tokens += WRITTEN;
        rate.time += start.elapsed();
    }
    Ok(rate)
}

#[derive(Default)]
struct Rate {
    tokens: usize,
    time: Duration,
}

impl Rate {
    fn per_second(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64().max(1e-9)
    }
}
