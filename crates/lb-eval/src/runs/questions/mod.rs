//! Questions about documents, each answered by a whole run of the loop: the file, what a run came to, tables.

mod item;
mod replay;
mod row;
mod table;

pub use item::{QuestionItem, read_questions};
pub use replay::{ReplayedRow, replay_rows};
pub use row::{Outcome, QuestionRow, done, hold, read_rows};
pub use table::{replay_table, summary};
