//! The queries of questions and answers that the worker makes up itself.

use candle_core::Tensor;
use lb_model::GenerateOptions;

use crate::Result;
use crate::session::WorkerSession;

impl WorkerSession {
    /// Generates behind the full cache, each prompt on its own.
    pub(super) fn self_study_queries(
        &self,
        prompts: &[String],
        max_new_tokens: usize,
        temperature: f64,
        seed: u64,
    ) -> Result<(Vec<Tensor>, usize)> {
        let (mut parts, mut read) = (Vec::new(), 0);
        for (number, prompt) in prompts.iter().enumerate() {
            self.watch.check()?;
            let tokens = self.prompt.task(&self.worker, &prompt.as_str().into(), &self.watch)?;
            let options = GenerateOptions {
                temperature: (temperature > 0.0).then_some(temperature),
                seed: seed.wrapping_add(number as u64),
                ..GenerateOptions::greedy(max_new_tokens)
            };
            let mut cache = self.held.cache.fork();
            let (_, queries) = self.worker.generate_capturing(&mut cache, &tokens, &options)?;
            read += cache.logical_len() - self.held.tokens.len();
            parts.push(queries);
        }
        Ok((self.worker.model().join_queries(&parts)?, read))
    }
}
