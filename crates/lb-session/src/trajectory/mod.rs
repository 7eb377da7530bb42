//! What the orchestrator has found out so far: an append-only list of tagged segments.

pub(crate) mod note;
mod recorded;
mod segment;

use serde::{Deserialize, Serialize};

pub use note::Note;
pub use recorded::{LogFault, LogFormat, LogNote, RecordedLog};
pub use segment::{Segment, Source};

/// An append-only list of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trajectory {
    segments: Vec<Segment>,
}

impl Trajectory {
    /// An empty trajectory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a segment at the end.
    pub fn push(&mut self, segment: Segment) {
        self.segments.push(segment);
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// True without segments.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

impl FromIterator<Segment> for Trajectory {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self { segments: segments.into_iter().collect() }
    }
}

impl IntoIterator for Trajectory {
    type Item = Segment;
    type IntoIter = std::vec::IntoIter<Segment>;

    fn into_iter(self) -> Self::IntoIter {
        self.segments.into_iter()
    }
}
