//! Work that other programs recorded, as a trajectory: chats, teams of agents, runs of coding agents, logs of ours.
//!
//! | format | messages in |
//! |---|---|
//! | plain | `trajectory: [{role, content}]`, with `id`, `task`, `target`, `answers` |
//! | OpenAI chat | a list, or `messages`: `tool_calls`, `function_call`, parts, `reasoning_content` |
//! | OpenAI Responses | a list, or `input` and `output`: items with a type |
//! | Anthropic | a list, or `messages` with `system`: blocks |
//! | Magentic-One | `history`, `messages` or `message_thread`: `Orchestrator (thought)`, `WebSurfer` |
//! | AutoGen | the same: `name` beside `role`, or `source` with the `type` of a class; saved teams |
//! | SWE-agent | `trajectory` of steps with `history`, or `history` alone |
//! | RLM | JSON Lines, `metadata` first |
//! | ShareGPT | `conversations: [{from, value}]` |
//!
//! Transcripts of Claude Code and Codex wrap such messages, one a line; the wrapping is taken off.
//!
//! | what a message is | source |
//! |---|---|
//! | user, human, system, developer | request |
//! | an assistant's text; where a call follows in the same turn, or what came of running it | reply; reasoning |
//! | thoughts, an orchestrator's own words; instructions, named `-> WebSurfer` | reasoning |
//! | calls of tools; code that was run | code |
//! | what tools gave back, named by the tool; what a team's agents reported, named by the agent | tool |
//! | agents of a group that nobody orchestrates, named | reasoning |
//! | a role that says nothing | tool, with a note |

mod autogen;
mod blocks;
mod calls;
mod chat;
mod fault;
mod file;
mod format;
mod notes;
mod reading;
mod record;
mod responses;
mod rlm;
mod roles;
mod swe_agent;

use std::path::Path;

use serde_json::Value;

pub use fault::LogFault;
pub use format::LogFormat;
pub use notes::LogNote;

use crate::{Result, Segment, Source, Trajectory};

/// A log as a trajectory, with what else it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedLog {
    /// Whose log it is.
    pub format: LogFormat,
    /// Its id, where it has one.
    pub id: Option<String>,
    /// The id of what it is about, which other logs may have as well: `task_id`, `question_ID`, `instance_id`.
    pub about: Option<String>,
    /// Its messages, oldest first.
    pub trajectory: Trajectory,
    /// What is asked; empty where the log does not say it apart from its messages.
    pub task: String,
    /// What was written next; empty where the log does not say it apart from its messages.
    pub target: String,
    /// Short right answers, where the log has them.
    pub answers: Vec<String>,
    /// What did not enter the trajectory, or not as what it was.
    pub notes: Vec<LogNote>,
}

impl RecordedLog {
    /// Reads one log: an object with messages in it, or a list of messages or lines.
    ///
    /// # Errors
    /// [`LogFault`] for what is no log, for several, and for one without any text.
    pub fn from_json(value: &Value) -> std::result::Result<Self, LogFault> {
        record::read(value)
    }

    /// True for a message or a line of a log, which is no log by itself.
    pub fn is_message(value: &Value) -> bool {
        record::is_message(value)
    }

    /// Makes the last thing that the model under orchestration wrote the target, and cuts the trajectory there. Where no
    /// task is given, the last request before it becomes the task and leaves the trajectory. A target that is given
    /// stays as it is.
    #[must_use]
    pub fn with_last_as_target(mut self) -> Self {
        let mut segments: Vec<Segment> = self.trajectory.into_iter().collect();
        if self.target.trim().is_empty() {
            let said = |segment: &Segment| matches!(segment.source, Source::Reply | Source::Reasoning);
            let last = segments.iter().rposition(said);
            let last = last.or_else(|| segments.iter().rposition(|s| s.source == Source::Code));
            if let Some(last) = last {
                segments.truncate(last + 1);
                self.target = segments.pop().map(|segment| segment.text).unwrap_or_default();
            }
        }
        let asked = segments.iter().rposition(|segment| segment.source == Source::Request);
        if let (true, Some(asked)) = (self.task.trim().is_empty(), asked) {
            self.task = segments.remove(asked).text;
        }
        self.trajectory = segments.into_iter().collect();
        self
    }

    fn new(format: LogFormat) -> Self {
        let (task, target, answers, notes) = (String::new(), String::new(), Vec::new(), Vec::new());
        Self { format, id: None, about: None, trajectory: Trajectory::new(), task, target, answers, notes }
    }

    /// Takes over what was read from `field`.
    fn take(mut self, read: reading::Reading, field: &str) -> std::result::Result<Self, LogFault> {
        if read.segments.is_empty() {
            return Err(LogFault::Empty { field: field.to_owned() });
        }
        self.trajectory = read.segments.into_iter().collect();
        self.notes = read.notes;
        Ok(self)
    }
}

impl IntoIterator for RecordedLog {
    type Item = Segment;
    type IntoIter = std::vec::IntoIter<Segment>;

    fn into_iter(self) -> Self::IntoIter {
        self.trajectory.into_iter()
    }
}

impl Trajectory {
    /// Reads a file with one recorded log, whatever its format; see [`RecordedLog`]. A file of several, or a folder, is for
    /// `lb_eval::logs::load`.
    ///
    /// ```no_run
    /// # fn read(session: &mut lb_session::WorkerSession) -> lb_session::Result<()> {
    /// use lb_session::Trajectory;
    ///
    /// let log = Trajectory::read("chat.json")?;
    /// for note in &log.notes {
    ///     eprintln!("{note}");
    /// }
    /// session.extend_all(log, &mut |_, _| {})?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Log`](crate::Error::Log) naming file and line.
    pub fn read(path: impl AsRef<Path>) -> Result<RecordedLog> {
        file::read(path.as_ref())
    }

    /// Reads a list of messages, or an object with one; as [`RecordedLog::from_json`].
    ///
    /// # Errors
    /// Those of [`RecordedLog::from_json`].
    pub fn from_messages(messages: &Value) -> std::result::Result<RecordedLog, LogFault> {
        RecordedLog::from_json(messages)
    }
}
