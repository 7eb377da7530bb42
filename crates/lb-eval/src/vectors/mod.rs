//! Texts crammed into few vectors of a frozen worker: how many tokens come back, against how many vectors there are and how surprising
//! the text is (arXiv 2502.13063).
//!
//! Of each document a piece of text is taken, its first tokens, and for each number of vectors these are trained until the worker writes
//! the text behind them, or the steps are used up. Beside the text as it is stands the same in a random order of its tokens, which is far
//! more surprising: whether the limit is the length of a text or its surprise is to be seen there. Surprise is the negative log-likelihood
//! of the text from its second token on, in nats, and what the vectors take of it is the gain.
//!
//! Where an item has a task and a target, the vectors are also read in the place of the text, and what they retain of it for the target
//! is measured as [`retained`](crate::retained) does: an archive that is never unpacked.

mod measure;
mod plan;
mod row;
mod run;
mod table;
mod text;

pub use plan::{Order, VectorsPlan};
pub use row::{Behind, VectorsRow};
pub use run::{run, trainings};
pub use table::table;
