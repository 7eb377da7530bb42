//! One episode as a person would want to see it: the task, what was kept, the answer.

use std::path::Path;

use lb_am::Compaction;
use lb_eval::episodes::Episode;
use lb_explain::{excerpt, heat_map};
use lb_model::Worker;
use lb_session::{Handoff, OpenSession, Segment};

use crate::ask::answered;
use crate::{Result, say, write_file};

pub(super) fn one(
    worker: &Worker,
    episode: &Episode,
    compaction: &Compaction,
    html: Option<&Path>,
) -> Result<()> {
    let mut session = worker.session()?;
    session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {})?;
    let question = &episode.questions[0];
    let outcome = answered(&mut session, &Handoff::briefing(compaction.clone()), &question.text)?;
    let full = answered(&mut session, &Handoff::FullKv, &question.text)?.answer;
    let briefing = outcome.briefing.as_ref().ok_or("the handoff made no briefing")?;
    let bold = anstyle::Style::new().bold();
    crate::say::show(&format!(
        "An orchestrator wrote {} lines of notes: {} tokens in the KV cache of the worker ({}).\n\n{bold}Task{bold:#}      {}\n\
         {bold}Briefing{bold:#}  {} of {} positions, coloured by the attention the task pays them:\n\n{}\n\n\
         {bold}Answer{bold:#}    {}  (made in {:.0} ms, answered in {:.0} ms)\n\
         {bold}Beside it{bold:#} {}  (over the whole cache; right is: {})\n",
        episode.lines.len(),
        session.seq_len(),
        worker.name(),
        question.text,
        briefing.kept_len(),
        briefing.seq_len(),
        excerpt(&briefing.explain(worker)),
        in_a_line(&outcome.answer.text),
        briefing.timing().total().as_secs_f64() * 1e3,
        outcome.answer.elapsed.as_secs_f64() * 1e3,
        in_a_line(&full.text),
        question.answer,
    ));
    if let Some(path) = html {
        write_file(path, heat_map(briefing, worker, &outcome.answer.text)?.as_bytes())?;
        say!("heat map: {}\n", path.display());
    }
    Ok(())
}

/// The beginning of an answer, for those of models that never end.
fn in_a_line(text: &str) -> String {
    const LONGEST: usize = 160;
    let line = lb_io::shown::visible(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
