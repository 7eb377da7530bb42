//! What a briefing is trained on: an answer, and how likely each token was behind the full cache.

use candle_core::{D, Tensor};
use lb_model::{GenerateOptions, PrefillOptions};
use lb_session::{Snapshot, Task};

use crate::{Error, Result};

/// A task and an answer to it, with the chances that all tokens have behind the full cache in the place of each token of the answer.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// The task, and the answer without its last token.
    pub(super) read: Vec<u32>,
    /// `[answer, vocab]`, f32.
    pub(super) chances: Tensor,
}

impl Lesson {
    /// An answer that is given.
    ///
    /// # Errors
    /// [`Error::Empty`] for no answer, [`Error::Session`] and [`Error::Model`] for a task that does not fit behind the trajectory.
    pub fn given(snapshot: &Snapshot, task: impl Into<Task>, answer: &[u32]) -> Result<Self> {
        let Some((_, before)) = answer.split_last() else { return Err(Error::Empty { arg: "answer" }) };
        let (model, task) = (snapshot.worker().model(), snapshot.task_tokens(task)?);
        let mut cache = snapshot.cache().fork();
        let first = model.prefill(&task, &mut cache, &PrefillOptions::default(), &mut |_, _| {})?;
        let mut logits = vec![first.unsqueeze(0)?];
        if !before.is_empty() {
            logits.push(model.forward_all(before, &mut cache)?);
        }
        let chances = candle_nn::ops::softmax(&Tensor::cat(&logits, 0)?, D::Minus1)?;
        Ok(Self { read: [&task, before].concat(), chances })
    }

    /// An answer that the worker makes up over the full cache, drawn at temperature 1, of at most `tokens` tokens.
    ///
    /// # Errors
    /// Those of [`given`](Self::given).
    pub fn made_up(snapshot: &Snapshot, task: impl Into<Task>, tokens: usize, seed: u64) -> Result<Self> {
        let (worker, task): (_, Task) = (snapshot.worker(), task.into());
        let prompt = snapshot.task_tokens(task.clone())?;
        let options = GenerateOptions { temperature: Some(1.0), seed, ..GenerateOptions::greedy(tokens) };
        let mut cache = snapshot.cache().fork();
        let mut answer = worker.generate(&mut cache, &prompt, &options, &mut |_, _| true)?.tokens;
        // The end of an answer is a part of it.
        if answer.len() < tokens {
            answer.extend(worker.tokenizer().eos_ids().first());
        }
        Self::given(snapshot, task, &answer)
    }

    /// Tokens of the answer.
    pub fn tokens(&self) -> usize {
        self.chances.dims()[0]
    }
}
