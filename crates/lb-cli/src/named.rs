//! A handoff with the text that it was named by.

use std::str::FromStr;

use lb_session::Handoff;

#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) text: String,
    pub(crate) handoff: Handoff,
}

impl FromStr for Named {
    type Err = lb_session::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { text: text.trim().to_owned(), handoff: text.parse()? })
    }
}
