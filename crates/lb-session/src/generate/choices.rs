//! How likely a worker finds each of several answers, without letting it write one.

use lb_model::{KvCache, Tokenizer, Worker};
use serde::{Deserialize, Serialize};

use crate::Result;

/// The answers of a multiple-choice question, and what stands before them in a reply. Their chances are read behind the
/// prompt and this beginning, which is forced on the worker, from the distribution of the next token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The beginning of the reply.
    pub opening: String,
    /// The answers; the first token of each behind the opening must be its own.
    pub options: Vec<String>,
}

/// The chances of some choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chances {
    /// Of each, in their order; they add up to 1.
    pub of: Vec<f64>,
    /// What all of them had together among all tokens, 0 to 1.
    pub mass: f64,
}

impl Chances {
    /// The likeliest choice, the first of equals.
    pub fn likeliest(&self) -> Option<usize> {
        let better = |best: Option<usize>, next: usize| match best {
            Some(best) if self.of[best] >= self.of[next] => Some(best),
            _ => Some(next),
        };
        (0..self.of.len()).fold(None, better)
    }

    /// `KL(self || other)` in nats; `None` where they are of different choices.
    pub fn kl(&self, other: &Self) -> Option<f64> {
        let term = |(p, q): (&f64, &f64)| {
            if *p > 0.0 { p * (p / q.max(f64::MIN_POSITIVE)).ln() } else { 0.0 }
        };
        (self.of.len() == other.of.len())
            .then(|| self.of.iter().zip(&other.of).map(term).sum::<f64>().max(0.0))
    }
}

/// What is read, and which next tokens stand for each choice.
struct Forced {
    opening: Vec<u32>,
    next: Vec<Vec<u32>>,
}

impl Choices {
    /// Reads the chances behind what `cache` holds, which stays as it is. `None` where the tokenizer does not tell the
    /// choices apart by one token, or there is no room for the opening.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model).
    pub fn over(&self, worker: &Worker, cache: &KvCache) -> Result<Option<Chances>> {
        let Some(forced) = self.forced(worker.tokenizer())? else { return Ok(None) };
        if cache.logical_len() + forced.opening.len() > worker.config().position_limit() {
            return Ok(None);
        }
        let logits = worker.model().forward(&forced.opening, &mut cache.fork())?.to_vec1::<f32>()?;
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from(logit - highest).exp();
        let all: f64 = logits.iter().map(|logit| weight(*logit)).sum();
        let of_choice = |tokens: &Vec<u32>| tokens.iter().map(|t| weight(logits[*t as usize])).sum::<f64>();
        let of: Vec<f64> = forced.next.iter().map(of_choice).collect();
        let sum: f64 = of.iter().sum();
        // Logits that are no numbers, or all weight elsewhere.
        if !sum.is_finite() || sum <= 0.0 {
            return Ok(None);
        }
        Ok(Some(Chances { of: of.iter().map(|weight| weight / sum).collect(), mass: sum / all }))
    }

    fn forced(&self, tokenizer: &Tokenizer) -> Result<Option<Forced>> {
        let mut whole = Vec::with_capacity(self.options.len());
        for option in &self.options {
            whole.push(tokenizer.encode_text(&format!("{}{option}", self.opening))?);
        }
        let Some(first) = whole.first() else { return Ok(None) };
        // A tokenizer may join the opening's last character with what follows: what all share is read.
        let shared = (0..first.len()).take_while(|at| whole.iter().all(|w| w.get(*at) == first.get(*at)));
        let shared = shared.count();
        let mut next: Vec<Vec<u32>> =
            whole.iter().map(|tokens| tokens.get(shared).copied().into_iter().collect()).collect();
        if shared == 0 || !distinct(&next) {
            return Ok(None);
        }
        // Alone and behind a space a letter is another token of the same meaning.
        let mut wider = next.clone();
        for (tokens, option) in wider.iter_mut().zip(&self.options) {
            for text in [option.clone(), format!(" {option}")] {
                if let [only] = tokenizer.encode_text(&text)?[..]
                    && !tokens.contains(&only)
                {
                    tokens.push(only);
                }
            }
        }
        if distinct(&wider) {
            next = wider;
        }
        Ok(Some(Forced { opening: first[..shared].to_vec(), next }))
    }
}

/// True where each choice has tokens, and none that another has.
fn distinct(next: &[Vec<u32>]) -> bool {
    let mut all: Vec<u32> = next.concat();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    all.len() == count && next.iter().all(|tokens| !tokens.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Chances, distinct};

    #[test]
    fn divergence_is_zero_for_the_same_and_grows_with_the_difference() {
        let chances = |of: &[f64]| Chances { of: of.to_vec(), mass: 1.0 };
        let even = chances(&[0.5, 0.5]);
        assert_eq!(even.kl(&even), Some(0.0));
        let expected = 0.5 * (0.5_f64 / 0.9).ln() + 0.5 * (0.5_f64 / 0.1).ln();
        assert!((even.kl(&chances(&[0.9, 0.1])).unwrap() - expected).abs() < 1e-12);
        assert!(even.kl(&chances(&[1.0, 0.0])).unwrap().is_finite());
        assert_eq!(even.kl(&chances(&[1.0])), None);
        assert_eq!((even.likeliest(), chances(&[0.1, 0.9]).likeliest()), (Some(0), Some(1)));
        assert_eq!(chances(&[]).likeliest(), None);
    }

    #[test]
    fn tokens_of_two_choices_tell_nothing() {
        assert!(distinct(&[vec![1, 2], vec![3]]));
        assert!(!distinct(&[vec![1, 2], vec![2]]));
        assert!(!distinct(&[vec![1], vec![]]));
    }
}
