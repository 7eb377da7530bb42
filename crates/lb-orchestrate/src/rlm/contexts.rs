//! The documents of a run, and which of them the worker reads whole.

use lb_session::{Segment, Source};

use super::turn::Draft;
use super::{Event, Rlm};
use crate::{Error, Result};

/// A document of a run.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) name: String,
    pub(super) chars: usize,
    /// Whether the worker reads it as a part of the trajectory.
    pub(super) read: bool,
}

/// All documents of a run, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub(super) struct Contexts {
    all: Vec<Context>,
    /// Pieces of documents that the worker is still to read.
    unread: Vec<String>,
    /// Tokens of the documents that it reads.
    tokens: usize,
}

impl Contexts {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Context> {
        self.all.iter()
    }

    pub(super) fn all_read(&self) -> bool {
        self.all.iter().all(|context| context.read)
    }

    /// Forgets a piece that the worker has read.
    pub(super) fn was_read(&mut self, piece: &str) {
        self.unread.retain(|unread| unread != piece);
    }
}

impl Rlm {
    /// Enters a document into the list; where the configuration says so and it fits, it is cut into its paragraphs for the
    /// worker.
    pub(super) fn list_context(&mut self, name: &str, text: &str) -> Result<()> {
        let worker = self.shared.session.worker();
        let mut context = Context { name: name.to_owned(), chars: text.chars().count(), read: false };
        if self.shared.config.brief_documents {
            // The other half is for the trajectory, prompts and answers.
            let room = worker.config().position_limit() / 2;
            let cancel = &self.shared.config.cancel;
            let counted = worker.tokenizer().encode_text_start(text, 0, room, &mut || !cancel.is_cancelled());
            let tokens = match counted {
                Ok((_, all)) => self.contexts.tokens + all,
                Err(lb_model::Error::Interrupted) => return Err(Error::Cancelled),
                Err(error) => return Err(error.into()),
            };
            context.read = tokens <= room;
            if context.read {
                self.contexts.tokens = tokens;
                self.contexts.unread.extend(paragraphs(text));
            }
        }
        self.contexts.all.push(context);
        Ok(())
    }

    /// Lets the worker read what it has not read yet.
    pub(super) fn read_documents(
        &mut self,
        draft: &mut Draft,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<()> {
        while let Some(piece) = self.contexts.unread.first().cloned() {
            let entered = self.shared.enter(Segment::new(Source::Artifact, piece), 0)?;
            self.contexts.unread.remove(0);
            on_event(&Event::Entered(&entered));
            draft.entered.push(entered);
        }
        Ok(())
    }
}

/// What stands between empty lines.
fn paragraphs(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let parts = lines.split(|line| line.trim().is_empty()).filter(|part| !part.is_empty());
    parts.map(|part| part.join("\n").trim().to_owned()).collect()
}
