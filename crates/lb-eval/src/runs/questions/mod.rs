//! Questions about documents, each answered by a whole run of the loop: the file, what a run came to, a table.

mod item;
mod row;
mod run;
mod table;

pub use item::{QuestionItem, read_questions};
pub(super) use row::best;
pub use row::{Outcome, QuestionRow};
pub use run::{Questions, run};
pub use table::summary;
