//! Memory that one layer leaves to the next.
//!
//! A system hands out a new large buffer as pages that it clears when they are first touched, and takes them back when the
//! buffer is dropped; on the CPU that costs more than norms and rotations do. So for the length of a pass what an
//! operation is done with is kept, and the next one of that size writes into it.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use candle_core::Tensor;

use crate::Result;
use crate::plain::{is_plain, whole};

/// Smaller ones come as fast from the allocator.
const SMALLEST: usize = 1 << 14;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
    static KEEPERS: Cell<usize> = const { Cell::new(0) };
}

/// More than a layer ever holds at once; where more is given than taken, the oldest go.
const MOST: usize = 16;

/// While there is one on this thread, what is given back is kept; with the last one it goes.
pub(crate) struct Keeper(PhantomData<Rc<()>>);

/// See [`Keeper`].
pub(crate) fn keep() -> Keeper {
    KEEPERS.set(KEEPERS.get() + 1);
    Keeper(PhantomData)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        KEEPERS.set(KEEPERS.get() - 1);
        if KEEPERS.get() == 0 {
            KEPT.take();
        }
    }
}

/// `len` numbers to write on: zeros, or whatever was there before.
pub(crate) fn take(len: usize) -> Vec<f32> {
    let mut buffer = kept_of(len).unwrap_or_else(|| vec![0.0; len]);
    buffer.truncate(len);
    buffer
}

/// The smallest that is large enough, unless it is far too large.
fn kept_of(len: usize) -> Option<Vec<f32>> {
    if len < SMALLEST {
        return None;
    }
    KEPT.with_borrow_mut(|kept| {
        let fits = |buffer: &Vec<f32>| (len..=2 * len).contains(&buffer.len());
        let fitting = kept.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let (index, _) = fitting.min_by_key(|(_, buffer)| buffer.len())?;
        Some(kept.remove(index))
    })
}

/// For the next [`take`]. As with [`numbers_of`](crate::plain::numbers_of), nobody else reads `x` any more.
#[allow(clippy::needless_pass_by_value, reason = "nothing is left of it")]
pub(crate) fn give(x: Tensor) -> Result<()> {
    if KEEPERS.get() > 0 && x.elem_count() >= SMALLEST && is_plain(&x) {
        let numbers = whole(&x)?;
        KEPT.with_borrow_mut(|kept| {
            if kept.len() == MOST {
                kept.remove(0);
            }
            kept.extend(numbers);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{KEPT, MOST, SMALLEST, give, keep, take};
    use crate::plain::tensor;

    fn given(len: usize, number: f32) {
        give(tensor(vec![number; len], len).unwrap()).unwrap();
    }

    /// The best fit comes first, and only while it is kept.
    #[test]
    fn what_is_given_is_taken_again() {
        let keeper = keep();
        given(3 * SMALLEST, 3.0);
        given(2 * SMALLEST, 2.0);
        {
            let _inner = keep();
            given(8 * SMALLEST, 8.0);
        }
        assert_eq!(take(2 * SMALLEST - 1), vec![2.0; 2 * SMALLEST - 1]);
        assert_eq!(take(2 * SMALLEST), vec![3.0; 2 * SMALLEST]);
        assert_eq!(take(2 * SMALLEST), vec![0.0; 2 * SMALLEST]);
        (0..=MOST).for_each(|number| given(SMALLEST + number, 1.0));
        assert_eq!(take(SMALLEST), vec![1.0; SMALLEST]);
        assert_eq!(KEPT.with_borrow(|kept| kept.iter().map(Vec::len).min()), Some(SMALLEST + 2));
        drop(keeper);
        assert_eq!(take(8 * SMALLEST), vec![0.0; 8 * SMALLEST]);
        given(2 * SMALLEST, 1.0);
        let _keeper = keep();
        assert_eq!(take(2 * SMALLEST), vec![0.0; 2 * SMALLEST]);
    }
}
