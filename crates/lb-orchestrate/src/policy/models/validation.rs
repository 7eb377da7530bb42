//! What a reply must be before it is taken.

use serde::{Deserialize, Serialize};

use crate::{Completion, Error, Finish, Result};

/// What a reply must be. One that is not costs what it costs, and the next model is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Empty replies are refused. Default: true.
    pub text: bool,
    /// Replies that were cut at the limit of tokens are refused. Default: false, the loop says so to the model itself.
    pub whole: bool,
    /// Replies that ended for a reason of the service (a filter, a refusal) are refused. Default: true.
    pub willing: bool,
    /// At least one of these has to be in the text, for instance "```repl". Default: none.
    pub any_of: Vec<String>,
    /// None of these may be in it. Default: none.
    pub none_of: Vec<String>,
}

impl Default for Validation {
    fn default() -> Self {
        Self { text: true, whole: false, willing: true, any_of: Vec::new(), none_of: Vec::new() }
    }
}

impl Validation {
    pub(super) fn validate(&self) -> Result<()> {
        match self.any_of.iter().chain(&self.none_of).find(|text| text.is_empty()) {
            Some(_) => Err(Error::Empty { arg: "models.validation" }),
            None => Ok(()),
        }
    }

    /// Why a reply is not taken, if so.
    pub fn refuses(&self, completion: &Completion) -> Option<String> {
        let text = &completion.text;
        if self.text && text.trim().is_empty() {
            return Some("the reply is empty".to_owned());
        }
        match &completion.finish {
            Finish::Length if self.whole => return Some("the reply was cut".to_owned()),
            Finish::Other(why) if self.willing => return Some(format!("the reply ended with {why}")),
            _ => {}
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|part| text.contains(part.as_str())) {
            return Some(format!("the reply has none of {:?}", self.any_of));
        }
        let found = self.none_of.iter().find(|part| text.contains(part.as_str()))?;
        Some(format!("the reply has {found:?}"))
    }
}
