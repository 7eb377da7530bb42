//! The rounds of a debate.

use std::time::{Duration, Instant};

use lb_model::GenerateOptions;
use lb_session::{CallTokens, Handoff, Segment, WorkerSession};
use serde::{Deserialize, Serialize};

use super::config::{DebateConfig, Told};
use crate::Result;

/// Agents, each with a cache of its own that begins as the given session's.
#[derive(Debug)]
pub struct Debate<'a> {
    /// Has what the question is about, read once for all.
    session: &'a WorkerSession,
    config: DebateConfig,
}

/// What an agent said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Whose turn it was, from 0.
    pub agent: usize,
    /// In which round, from 0.
    pub round: usize,
    /// What it said.
    pub text: String,
    /// What it cost.
    pub tokens: CallTokens,
}

/// How a debate went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Debated {
    /// What most agents said in the last round, the first of equals.
    pub answer: String,
    /// How many of them.
    pub votes: usize,
    /// Rounds that were held.
    pub rounds: usize,
    /// Whether all said the same in the last one.
    pub agreed: bool,
    /// Everything that was said, round by round, agent by agent.
    pub replies: Vec<Reply>,
    /// Tokens of all calls.
    pub tokens: CallTokens,
    /// Tokens of replies that went into agents' caches, beside those of calls.
    pub heard: usize,
    /// How long it took.
    pub elapsed: Duration,
}

impl<'a> Debate<'a> {
    /// A debate about what `session` has read.
    ///
    /// # Errors
    /// Those of [`DebateConfig::validate`].
    pub fn new(session: &'a WorkerSession, config: DebateConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { session, config })
    }

    /// Lets the agents answer `question` in rounds. `same` says what of two replies is the same answer: it gives each the form in which they are
    /// compared.
    ///
    /// # Errors
    /// [`Error::Session`](crate::Error::Session) where a call fails.
    pub fn run(&self, question: &str, told: &Told, same: &dyn Fn(&str) -> String) -> Result<Debated> {
        let (start, config) = (Instant::now(), &self.config);
        let mut agents: Vec<WorkerSession> = (0..config.agents).map(|_| self.session.fork()).collect();
        let (mut replies, mut last): (Vec<Reply>, Vec<String>) = (Vec::new(), Vec::new());
        let (mut tokens, mut heard, mut agreed) = (CallTokens::default(), 0, false);
        let mut rounds = 0;
        while rounds < config.rounds && !(agreed && config.ends_early) {
            let mut now = Vec::with_capacity(config.agents);
            for (agent, session) in agents.iter_mut().enumerate() {
                let others = last.iter().enumerate().filter(|(other, _)| *other != agent);
                let before = session.seq_len();
                for (other, said) in others {
                    session.extend(Segment::finding(said.clone()).named(format!("agent {}", other + 1)))?;
                }
                heard += session.seq_len() - before;
                let task = if rounds == 0 { question.to_owned() } else { again(question, &last[agent]) };
                let handoff = match told {
                    Told::Text => Handoff::TextReplay,
                    Told::Diff => Handoff::FullKv,
                    Told::Over(handoff) => handoff.as_ref().clone(),
                };
                let asked = session.ask(task).via(&handoff).generating(self.sampling(agent, rounds));
                let outcome = asked.at_most(config.reply_tokens).run()?;
                tokens += outcome.record.tokens;
                let text = first_line(&outcome.answer.text).to_owned();
                now.push(text.clone());
                replies.push(Reply { agent, round: rounds, text, tokens: outcome.record.tokens });
            }
            last = now;
            rounds += 1;
            agreed = last.iter().map(|text| same(text)).all(|form| form == same(&last[0]));
        }
        let forms: Vec<String> = last.iter().map(|text| same(text)).collect();
        let votes = |form: &String| forms.iter().filter(|other| *other == form).count();
        let mut best = 0;
        for number in 1..forms.len() {
            if votes(&forms[number]) > votes(&forms[best]) {
                best = number;
            }
        }
        // What agents were told counts as heard where it went into a cache of theirs; as text it is in the calls' own count.
        let heard = if *told == Told::Text { 0 } else { heard };
        let (answer, votes) = (last[best].clone(), votes(&forms[best]));
        Ok(Debated { answer, votes, rounds, agreed, replies, tokens, heard, elapsed: start.elapsed() })
    }

    fn sampling(&self, agent: usize, round: usize) -> GenerateOptions {
        let config = &self.config;
        let greedy = GenerateOptions::greedy(config.reply_tokens);
        if config.temperature == 0.0 {
            return greedy;
        }
        let seed = config.seed.wrapping_mul(1_000_003).wrapping_add((round * 64 + agent) as u64);
        GenerateOptions { temperature: Some(config.temperature), seed, ..greedy }
    }
}

/// The question, once others have been heard.
fn again(question: &str, own: &str) -> String {
    format!(
        "{question}\nOther agents have answered as is said above; your answer was: {own}\nWhich answer is right? Give it in the same form, and \
         nothing else."
    )
}

/// Small models go on where they should end.
fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default().trim()
}
