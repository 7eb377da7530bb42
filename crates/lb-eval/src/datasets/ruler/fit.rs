//! As much text as fits.

use super::Draft;
use crate::datasets::TokenCount;
use crate::{Error, Result};

/// The draft with the most units whose context and question together have at most `budget` tokens, its units, its tokens.
pub(super) fn longest(
    budget: usize,
    build: &mut dyn FnMut(usize) -> Draft,
    count: TokenCount<'_>,
) -> Result<(Draft, usize, usize)> {
    let mut measured = |units: usize| -> Result<(Draft, usize)> {
        let draft = build(units);
        let tokens = count(&format!("{}\n\n{}", draft.context, draft.question))?;
        Ok((draft, tokens))
    };
    let (draft, tokens) = measured(0)?;
    if tokens > budget {
        return Err(Error::config("tokens", budget, "want room for the task itself and its answer"));
    }
    let (mut best, mut fits) = ((draft, 0, tokens), 0);
    // Doubling finds a length that is too long, halving the last one that is not.
    let mut fails = 16;
    loop {
        let (draft, tokens) = measured(fails)?;
        if tokens > budget {
            break;
        }
        (best, fits) = ((draft, fails, tokens), fails);
        fails *= 2;
        if fails > budget.saturating_mul(2) {
            return Err(Error::config("count", tokens, "want a token counter that grows with the text"));
        }
    }
    while fails - fits > 1 {
        let middle = usize::midpoint(fits, fails);
        let (draft, tokens) = measured(middle)?;
        if tokens > budget {
            fails = middle;
        } else {
            (best, fits) = ((draft, middle, tokens), middle);
        }
    }
    Ok(best)
}
