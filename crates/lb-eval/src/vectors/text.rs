//! Which text of a log is crammed.

use lb_model::Tokenizer;
use lb_session::Error as SessionError;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::plan::Order;
use crate::Result;
use crate::logs::LogItem;

/// The first `tokens` tokens of a message: of the first that has a right answer in it, else of the last that is as long, else of all of
/// them behind one another.
pub(super) fn text_of(item: &LogItem, tokenizer: &Tokenizer, tokens: usize) -> Result<Vec<u32>> {
    let encode = |text: &str| tokenizer.encode_text(text).map_err(SessionError::from);
    let lower = |text: &str| text.to_lowercase();
    let answers: Vec<String> = item.answers.iter().map(|answer| lower(answer)).collect();
    let answered = |text: &str| answers.iter().any(|a| !a.is_empty() && lower(text).contains(a));
    let segments = &item.trajectory;
    if let Some(segment) = segments.iter().find(|segment| answered(&segment.text)) {
        let mut found = encode(&segment.text)?;
        if found.len() >= tokens {
            found.truncate(tokens);
            return Ok(found);
        }
    }
    for segment in segments.iter().rev() {
        // A token is a byte at least.
        if segment.text.len() >= tokens {
            let mut found = encode(&segment.text)?;
            if found.len() >= tokens {
                found.truncate(tokens);
                return Ok(found);
            }
        }
    }
    let all: Vec<&str> = segments.iter().map(|segment| segment.text.as_str()).collect();
    let mut found = encode(&all.join("\n"))?;
    found.truncate(tokens);
    Ok(found)
}

/// The same tokens in the order that is asked for.
pub(super) fn in_order(mut tokens: Vec<u32>, order: Order, seed: u64) -> Vec<u32> {
    if order == Order::Shuffled {
        tokens.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    }
    tokens
}
