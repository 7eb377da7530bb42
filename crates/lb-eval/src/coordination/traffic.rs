//! What agents were sent, and what of it they had been sent before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use serde::{Deserialize, Serialize};

use super::episode::Episode;
use crate::Result;
use crate::table::cells::percent;
use crate::table::{Column, Table};

/// Tokens in a row that have to be the same for a passage to be one that was sent before; shorter segments as a whole.
pub const PASSAGE: usize = 16;

/// Tokens of one agent or phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Whose.
    pub name: String,
    /// Turns.
    pub turns: usize,
    /// Tokens of what was sent: contexts and instructions.
    pub sent: usize,
    /// Of these, tokens in passages that the same agent had been sent before, or had written.
    pub again: usize,
    /// Tokens of what was written.
    pub written: usize,
    /// Tokens as the data has them, in and out, where it does.
    pub recorded: (usize, usize),
}

/// What went to and fro in some episodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Episodes.
    pub episodes: usize,
    /// By agent, the one that was sent most first.
    pub agents: Vec<Sent>,
    /// By phase, likewise; empty where the data has none.
    pub phases: Vec<Sent>,
    /// In all.
    pub total: Sent,
}

/// Counts tokens turn by turn; `tokens` is any tokenizer. Agents of different episodes are the same where their names are, but what was
/// sent in another episode does not count as sent before.
///
/// # Errors
/// What `tokens` returns.
pub fn traffic(episodes: &[Episode], tokens: &dyn Fn(&str) -> Result<Vec<u32>>) -> Result<Traffic> {
    let mut agents: BTreeMap<&str, Sent> = BTreeMap::new();
    let mut phases: BTreeMap<&str, Sent> = BTreeMap::new();
    let mut total = Sent { name: "all".to_owned(), ..Sent::default() };
    let hasher = RandomState::new();
    for episode in episodes {
        // A transcript is given again and again: each segment is read once.
        let mut known: HashMap<&str, Vec<u32>> = HashMap::new();
        let mut before: HashMap<&str, HashSet<u64>> = HashMap::new();
        for turn in &episode.turns {
            let seen = before.entry(turn.agent.as_str()).or_default();
            let mut now = Vec::new();
            let mut sent = Sent { turns: 1, ..Sent::default() };
            let mut count = |text: &[u32], sent: &mut Sent| {
                sent.sent += text.len();
                sent.again += known_tokens(text, seen, &hasher, &mut now);
            };
            for segment in episode.context(turn) {
                let text = segment.text.as_str();
                if !known.contains_key(text) {
                    known.insert(text, tokens(text)?);
                }
                let text = &known[text];
                count(text, &mut sent);
            }
            if !turn.instruction.is_empty() {
                count(&tokens(&turn.instruction)?, &mut sent);
            }
            let response = tokens(&turn.response)?;
            sent.written = response.len();
            sent.recorded = (turn.tokens.input.unwrap_or(0), turn.tokens.output.unwrap_or(0));
            known_tokens(&response, seen, &hasher, &mut now);
            seen.extend(now);
            add(agents.entry(&turn.agent).or_default(), &sent);
            if let Some(phase) = &turn.phase {
                add(phases.entry(phase).or_default(), &sent);
            }
            add(&mut total, &sent);
        }
    }
    let sorted = |of: BTreeMap<&str, Sent>| {
        let mut all: Vec<Sent> =
            of.into_iter().map(|(name, sent)| Sent { name: name.to_owned(), ..sent }).collect();
        all.sort_by_key(|sent| std::cmp::Reverse(sent.sent));
        all
    };
    Ok(Traffic { episodes: episodes.len(), agents: sorted(agents), phases: sorted(phases), total })
}

fn add(to: &mut Sent, more: &Sent) {
    to.turns += more.turns;
    to.sent += more.sent;
    to.again += more.again;
    to.written += more.written;
    to.recorded = (to.recorded.0 + more.recorded.0, to.recorded.1 + more.recorded.1);
}

/// How many of `text` stand in passages that are in `seen`; its own passages go to `now`.
fn known_tokens(text: &[u32], seen: &HashSet<u64>, hasher: &RandomState, now: &mut Vec<u64>) -> usize {
    if text.is_empty() {
        return 0;
    }
    let (mut count, mut covered) = (0, 0);
    for (at, passage) in text.windows(PASSAGE.min(text.len())).enumerate() {
        let passage_hash = hasher.hash_one(passage);
        now.push(passage_hash);
        if seen.contains(&passage_hash) {
            let end = at + passage.len();
            count += end - at.max(covered);
            covered = end;
        }
    }
    count
}

impl Traffic {
    /// One line for each agent, then each phase, then all.
    pub fn table(&self) -> String {
        let again = |sent: &Sent| percent(sent.again as f64 / sent.sent.max(1) as f64);
        let recorded = |sent: &Sent| format!("{} + {}", sent.recorded.0, sent.recorded.1);
        let mut columns: Vec<Column<'_, Sent>> = vec![
            ("agent or phase", &|sent| sent.name.clone()),
            ("turns", &|sent| sent.turns.to_string()),
            ("tokens sent", &|sent| sent.sent.to_string()),
            ("sent before", &again),
            ("written", &|sent| sent.written.to_string()),
            ("as recorded", &recorded),
        ];
        if self.total.recorded == (0, 0) {
            columns.pop();
        }
        let all = self.agents.iter().chain(&self.phases).chain([&self.total]);
        Table::of(all, &columns).to_string()
    }
}

#[cfg(test)]
mod tests {
    use lb_session::Segment;

    use super::*;
    use crate::coordination::{Given, Turn};

    #[allow(clippy::unnecessary_wraps)]
    fn tokens(text: &str) -> Result<Vec<u32>> {
        Ok(text.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect())
    }

    fn numbers(from: u32, to: u32) -> String {
        (from..to).map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
    }

    fn turn(agent: &str, context: &str, response: &str) -> Turn {
        Turn {
            agent: agent.to_owned(),
            context: Given::Own(vec![Segment::tool(context)]),
            response: response.to_owned(),
            ..Turn::default()
        }
    }

    #[test]
    fn what_was_sent_before_is_counted_for_each_agent() {
        let turns = vec![
            turn("a", &numbers(0, 40), &numbers(100, 120)),
            // Other agents know nothing of it.
            turn("b", &numbers(0, 40), "7"),
            // 40 as before, 10 new, 20 of its own.
            turn("a", &format!("{} {}", numbers(0, 50), numbers(100, 120)), "8"),
            // 30 of a longer passage; 15 tokens in a row are too few.
            turn("a", &format!("{} 999 {}", numbers(5, 35), numbers(100, 115)), "9"),
        ];
        let episodes = [Episode { id: "1".to_owned(), turns, ..Episode::default() }];
        let counted = traffic(&episodes, &tokens).unwrap();
        let of = |name: &str| counted.agents.iter().find(|sent| sent.name == name).unwrap().clone();
        assert_eq!((of("b").sent, of("b").again), (40, 0));
        assert_eq!((of("a").turns, of("a").sent, of("a").again), (3, 40 + 70 + 46, 60 + 30));
        assert_eq!(of("a").written, 22);
        assert_eq!(counted.total.again, 90);
        assert!(counted.table().contains("57.7"), "{}", counted.table());
    }

    #[test]
    fn another_episode_is_another_memory() {
        let episode = |id: &str| Episode {
            id: id.to_owned(),
            turns: vec![turn("a", &numbers(0, 40), "1")],
            ..Episode::default()
        };
        let counted = traffic(&[episode("1"), episode("2")], &tokens).unwrap();
        assert_eq!((counted.total.sent, counted.total.again), (80, 0));
    }
}
