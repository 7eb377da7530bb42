//! What a worker is asked.

/// What a worker is asked, with the part of a document that it needs for it, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Text that this call alone sees, before the question.
    pub slice: Option<String>,
    /// The question.
    pub question: String,
}

impl Task {
    /// A question about a slice of a document.
    pub fn about(slice: impl Into<String>, question: impl Into<String>) -> Self {
        Self { slice: Some(slice.into()), question: question.into() }
    }
}

impl From<&str> for Task {
    fn from(question: &str) -> Self {
        Self { slice: None, question: question.to_owned() }
    }
}

impl From<String> for Task {
    fn from(question: String) -> Self {
        Self { slice: None, question }
    }
}

impl From<&Task> for Task {
    fn from(task: &Task) -> Self {
        task.clone()
    }
}
