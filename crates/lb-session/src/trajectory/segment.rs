//! One entry of a trajectory, and where it comes from.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Where a segment comes from. The worker sees it as a tag in front of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Something that was confirmed.
    Finding,
    /// The orchestrator's own thoughts: plans, guesses, rejected branches, instructions to others.
    Reasoning,
    /// Output of a tool, or what a named agent reported.
    Tool,
    /// A piece of work that was produced on the way: a table, a draft, a file.
    Artifact,
    /// Code that the orchestrator ran, tools that it called.
    Code,
    /// A reply as it came, a worker's or an assistant's; what was confirmed of it is a finding.
    Reply,
    /// What the orchestrator was asked, and the instructions that it works under.
    Request,
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 7] = [
        Source::Finding,
        Source::Reasoning,
        Source::Tool,
        Source::Artifact,
        Source::Code,
        Source::Reply,
        Source::Request,
    ];

    /// The tag that the worker sees.
    pub fn tag(self) -> &'static str {
        match self {
            Source::Finding => "finding",
            Source::Reasoning => "reasoning",
            Source::Tool => "tool",
            Source::Artifact => "artifact",
            Source::Code => "code",
            Source::Reply => "reply",
            Source::Request => "request",
        }
    }

    /// The source with this tag.
    pub fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.tag() == tag)
    }
}

/// One entry of a trajectory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Where it comes from.
    pub source: Source,
    /// Its text; any text is safe, control tokens in it stay text.
    pub text: String,
    /// Who said it, where several of one source do: an agent, a tool. The worker sees it behind the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The longest name that is kept, in characters.
const LONGEST_NAME: usize = 80;

impl Segment {
    /// A segment of the given source.
    pub fn new(source: Source, text: impl Into<String>) -> Self {
        Self { source, text: text.into(), name: None }
    }

    /// A confirmed finding.
    pub fn finding(text: impl Into<String>) -> Self {
        Self::new(Source::Finding, text)
    }

    /// A thought of the orchestrator.
    pub fn reasoning(text: impl Into<String>) -> Self {
        Self::new(Source::Reasoning, text)
    }

    /// Output of a tool.
    pub fn tool(text: impl Into<String>) -> Self {
        Self::new(Source::Tool, text)
    }

    /// A piece of work.
    pub fn artifact(text: impl Into<String>) -> Self {
        Self::new(Source::Artifact, text)
    }

    /// Code that was run.
    pub fn code(text: impl Into<String>) -> Self {
        Self::new(Source::Code, text)
    }

    /// A worker's reply.
    pub fn reply(text: impl Into<String>) -> Self {
        Self::new(Source::Reply, text)
    }

    /// What was asked.
    pub fn request(text: impl Into<String>) -> Self {
        Self::new(Source::Request, text)
    }

    /// Says who said it: `Segment::tool("12 C").named("WebSurfer")` reads `tool WebSurfer: 12 C`. White space within the
    /// name becomes single spaces, and what is beyond 80 characters is left out; a blank name is none.
    #[must_use]
    pub fn named(mut self, name: impl AsRef<str>) -> Self {
        let words: Vec<&str> = name.as_ref().split_whitespace().collect();
        let name: String = words.join(" ").chars().take(LONGEST_NAME).collect();
        self.name = Some(name).filter(|name| !name.is_empty());
        self
    }

    /// What stands before the colon in the line that the worker reads: the tag, and the name where there is one.
    pub fn label(&self) -> Cow<'static, str> {
        let tag = self.source.tag();
        match self.name.as_deref() {
            Some(name) if !name.trim().is_empty() => {
                let name: String = name.chars().take(LONGEST_NAME).collect();
                Cow::Owned(format!("{tag} {name}"))
            }
            _ => Cow::Borrowed(tag),
        }
    }
}
