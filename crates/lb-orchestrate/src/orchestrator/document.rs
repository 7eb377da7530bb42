//! A program that reads a long document part by part and keeps notes.

use std::collections::VecDeque;

use super::{Orchestrator, Step};
use crate::session::Answer;
use crate::{Segment, Task};

/// One thing that the program looks for in every part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// A part is worth a question where it contains this text.
    pub keyword: String,
    /// What the worker is asked about that part.
    pub question: String,
    /// How the reply is noted; `{}` stands for it.
    pub note: String,
}

/// Greps each part for its probes, asks the worker about the parts that match, logs findings and dead ends, and at the
/// end asks the questions that only the notes answer. Its final answer is one reply per line.
#[derive(Debug)]
pub struct DocumentWalk {
    steps: VecDeque<Planned>,
    pending: Option<Pending>,
    replies: Vec<String>,
}

#[derive(Debug)]
enum Planned {
    Log(Segment),
    Probe { part: String, probe: Probe },
    Question(String),
}

#[derive(Debug)]
enum Pending {
    Note(String),
    Reply,
}

impl DocumentWalk {
    /// Plans the walk over `parts`, the probes of each in order, then `questions`.
    pub fn new(parts: &[String], probes: &[Probe], questions: &[String]) -> Self {
        let mut steps = VecDeque::new();
        for (i, part) in parts.iter().enumerate() {
            let number = i + 1;
            let hits: Vec<&Probe> = probes.iter().filter(|p| part.contains(&p.keyword)).collect();
            if hits.is_empty() {
                let dead_end = format!("Part {number} was a dead end.");
                steps.push_back(Planned::Log(Segment::reasoning(dead_end)));
            } else {
                let line = format!("Read part {number}: {} matches.", hits.len());
                steps.push_back(Planned::Log(Segment::tool(line)));
            }
            for probe in hits {
                steps.push_back(Planned::Probe { part: part.clone(), probe: probe.clone() });
            }
        }
        steps.extend(questions.iter().cloned().map(Planned::Question));
        Self { steps, pending: None, replies: Vec::new() }
    }
}

impl Orchestrator for DocumentWalk {
    fn next(
        &mut self,
        reply: Option<&Answer>,
    ) -> std::result::Result<Step, Box<dyn std::error::Error + Send + Sync>> {
        match (self.pending.take(), reply) {
            (Some(Pending::Note(note)), Some(reply)) if !reply.text.is_empty() => {
                return Ok(Step::Log(Segment::finding(note.replace("{}", &reply.text))));
            }
            (Some(Pending::Reply), Some(reply)) => self.replies.push(reply.text.clone()),
            _ => {}
        }
        Ok(match self.steps.pop_front() {
            Some(Planned::Log(segment)) => Step::Log(segment),
            Some(Planned::Probe { part, probe }) => {
                self.pending = Some(Pending::Note(probe.note));
                Step::Ask(Task::about(part, probe.question))
            }
            Some(Planned::Question(question)) => {
                self.pending = Some(Pending::Reply);
                Step::AskBriefed(question.into())
            }
            None => Step::Finish(self.replies.join("\n")),
        })
    }
}
