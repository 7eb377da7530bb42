//! Logs in the built-in worker's own words.

use lb_session::Segment;

use super::LogItem;
use crate::Result;
use crate::episodes::{Episode, EpisodeConfig};

/// Words of a generated log, at least and at most.
pub const GENERATED_WORDS: (usize, usize) = (285, 600);

/// `documents` held-out episodes of [`GENERATED_WORDS`] with `questions` questions each, as log items: the log is the
/// trajectory, a question the task, its answer the target. The same seed gives the same items.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for 0 questions or more than 1,000.
pub fn generated(seed: u64, documents: usize, questions: usize) -> Result<Vec<LogItem>> {
    let config = EpisodeConfig::held_out(GENERATED_WORDS, questions);
    let mut items = Vec::with_capacity(documents * questions);
    for seed in (seed..).take(documents) {
        let episode = Episode::generate(seed, &config)?;
        let trajectory: Vec<Segment> = episode.lines.iter().map(Segment::from).collect();
        for (number, question) in episode.questions.iter().enumerate() {
            items.push(LogItem {
                id: format!("{seed}#{number}"),
                document: seed.to_string(),
                trajectory: trajectory.clone(),
                task: question.text.clone(),
                target: question.answer.clone(),
                answers: vec![question.answer.clone()],
                decisions: Vec::new(),
            });
        }
    }
    Ok(items)
}
