//! What holds for one call: when to stop it, how long its answer may be, who hears it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{CancelToken, Choices, Error, Result};

/// Hears the number of a task (0 where there is one) and a piece of its answer; false stops that answer there.
pub type OnText<'a> = &'a mut dyn FnMut(usize, &str) -> bool;

/// How a call is carried out; the default is the session's own way.
///
/// ```
/// use lb_session::{Ask, CancelToken};
///
/// let cancel = CancelToken::new();
/// let mut hear = |_: usize, text: &str| { print!("{text}"); true };
/// let ask = Ask::new().cancelled_by(&cancel).at_most(200).heard_by(&mut hear);
/// assert_eq!(ask.max_new_tokens, Some(200));
/// ```
#[derive(Default)]
pub struct Ask<'a> {
    /// Calls the call off: between the passes that read, and at each token of an answer. Then nothing of it is recorded.
    pub cancel: Option<&'a CancelToken>,
    /// When the answer is no longer wanted; seen to at the same places.
    pub deadline: Option<Instant>,
    /// Tokens of the answer at most, at least 1, instead of what the session was configured with.
    pub max_new_tokens: Option<usize>,
    /// Reads the chances of these choices as well, before the answer is written.
    pub choices: Option<&'a Choices>,
    /// Hears the answer as it comes.
    pub on_text: Option<OnText<'a>>,
}

impl<'a> Ask<'a> {
    /// The session's own way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`cancel`](Self::cancel).
    #[must_use]
    pub fn cancelled_by(self, cancel: &'a CancelToken) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Sets [`deadline`](Self::deadline).
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Sets [`max_new_tokens`](Self::max_new_tokens).
    #[must_use]
    pub fn at_most(self, max_new_tokens: usize) -> Self {
        Self { max_new_tokens: Some(max_new_tokens), ..self }
    }

    /// Sets [`on_text`](Self::on_text).
    #[must_use]
    pub fn heard_by(self, on_text: OnText<'a>) -> Self {
        Self { on_text: Some(on_text), ..self }
    }

    /// Sets [`choices`](Self::choices).
    #[must_use]
    pub fn weighing(self, choices: &'a Choices) -> Self {
        Self { choices: Some(choices), ..self }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        match self.max_new_tokens {
            Some(0) => Err(Error::config("max_new_tokens", 0, "want at least 1")),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("cancel", &self.cancel)
            .field("deadline", &self.deadline)
            .field("max_new_tokens", &self.max_new_tokens)
            .field("choices", &self.choices)
            .field("on_text", &self.on_text.is_some())
            .finish()
    }
}

/// What may end the call under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    cancel: Option<CancelToken>,
    /// When, and how long that was from the beginning.
    deadline: Option<(Instant, Duration)>,
}

impl Watch {
    pub(crate) fn of(ask: &Ask<'_>) -> Self {
        let limit = |deadline: Instant| (deadline, deadline.saturating_duration_since(Instant::now()));
        Self { cancel: ask.cancel.cloned(), deadline: ask.deadline.map(limit) }
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.check().is_ok()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            return Err(Error::Cancelled);
        }
        match self.deadline {
            Some((at, limit)) if Instant::now() >= at => {
                Err(Error::Timeout { what: "a worker's answer", limit })
            }
            _ => Ok(()),
        }
    }

    /// The error of a call that this has ended is about why, not about where.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match error {
            Error::Model(lb_model::Error::Interrupted) => self.check().err().unwrap_or(Error::Cancelled),
            Error::Call { source, index } => match self.explain(*source) {
                ended @ (Error::Cancelled | Error::Timeout { .. }) => ended,
                other => other.in_call(index),
            },
            other => other,
        }
    }
}
