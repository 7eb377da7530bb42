//! Turns as recorded continuations.

use std::collections::BTreeSet;

use super::episode::Episode;
use crate::logs::LogItem;

/// What an agent is asked for where the data does not say.
const GO_ON: &str = "Write the next message of";

/// One item for each turn that has something in front of it and says something: what the agent was given is the trajectory, what it was asked
/// for the task, what it wrote the target. With `agents`, theirs alone. A document is an episode.
pub fn items(episodes: &[Episode], agents: &BTreeSet<String>) -> Vec<LogItem> {
    let mut all = Vec::new();
    for episode in episodes {
        for (number, turn) in episode.turns.iter().enumerate() {
            let trajectory = episode.context(turn);
            let wanted = agents.is_empty() || agents.contains(&turn.agent);
            if trajectory.is_empty() || turn.response.trim().is_empty() || !wanted {
                continue;
            }
            let task = match (turn.instruction.trim(), episode.task.trim()) {
                ("", "") => format!("{GO_ON} {}.", turn.agent),
                ("", task) => format!("{task}\n{GO_ON} {}.", turn.agent),
                (instruction, _) => instruction.to_owned(),
            };
            all.push(LogItem {
                id: format!("{}#{number}", episode.id),
                document: episode.id.clone(),
                trajectory: trajectory.to_vec(),
                task,
                target: turn.response.clone(),
                answers: Vec::new(),
                decisions: turn.decisions.clone(),
            });
        }
    }
    all
}
