//! Templates come with checkpoints of strangers. What one may take is bounded: its size and depth before it is parsed, on a
//! stack of known size; the instructions that it runs; and the text that it makes, of which `fuel` keeps account. The
//! language has no place to ask before a text grows, so `grammar` puts filters at the operands of what can make it grow.

mod fuel;
mod grammar;
mod tokens;

use std::thread;

pub(super) use fuel::{Fuel, new_prefix};
use grammar::{Put, Unread, guards};
use tokens::blocks;

/// Bytes of a template.
const SOURCE_BYTES: usize = 1 << 20;
/// Bytes of one block: as many operands as they hold are nested in one another when it is compiled.
const BLOCK_BYTES: usize = 64 << 10;
/// Enough for what these bounds let through.
const STACK: usize = 64 << 20;

/// A template whose operands are guarded.
pub(super) struct Guarded {
    pub(super) source: String,
    /// Bytes of its own text, outside of blocks.
    pub(super) text: usize,
}

/// Why a template is not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("a template of {0} bytes; at most {SOURCE_BYTES} are read")]
    Long(usize),
    #[error("a block of {0} bytes; at most {BLOCK_BYTES} are read")]
    LongBlock(usize),
    #[error("brackets nested too deeply")]
    Deep,
    /// Small enough for the language's own parser to say why.
    #[error("an expression that cannot be read")]
    Odd,
}

/// Whether a template is of a size that is looked at.
pub(super) fn check_size(source: &str) -> Result<(), Fault> {
    if source.len() > SOURCE_BYTES { Err(Fault::Long(source.len())) } else { Ok(()) }
}

/// Guards the operands of a template with filters whose names begin with `prefix`.
pub(super) fn guarded(source: &str, prefix: &str) -> Result<Guarded, Fault> {
    check_size(source)?;
    let Some(all) = blocks(source) else {
        return Err(if source.len() > BLOCK_BYTES { Fault::LongBlock(source.len()) } else { Fault::Odd });
    };
    let mut puts: Vec<Put> = Vec::new();
    for block in &all.blocks {
        if block.bytes > BLOCK_BYTES {
            return Err(Fault::LongBlock(block.bytes));
        }
        puts.extend(guards(block, prefix).map_err(|unread| match unread {
            Unread::Deep => Fault::Deep,
            Unread::Odd => Fault::Odd,
        })?);
    }
    // What ends at one place was recorded from the inside out.
    puts.sort_by_key(|(at, _)| *at);
    let mut guarded = String::with_capacity(2 * source.len());
    let mut from = 0;
    for (at, text) in puts {
        guarded.push_str(&source[from..at]);
        guarded.push_str(&text);
        from = at;
    }
    guarded.push_str(&source[from..]);
    Ok(Guarded { source: guarded, text: all.text })
}

/// Does `work` on a stack of known size.
pub(super) fn on_stack<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("template".to_owned()).stack_size(STACK);
        let thread = builder.spawn_scoped(scope, work)?;
        thread.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}
