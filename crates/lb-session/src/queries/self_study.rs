//! The queries of questions and answers that the worker makes up itself.

use candle_core::Tensor;
use lb_model::GenerateOptions;

use crate::Result;
use crate::context::Reader;

/// Generates behind the full cache, each prompt on its own.
pub(super) fn self_study_queries(
    reader: Reader<'_>,
    prompts: &[String],
    max_new_tokens: usize,
    temperature: f64,
    seed: u64,
) -> Result<(Vec<Tensor>, usize)> {
    let context = reader.context;
    let (mut parts, mut read) = (Vec::new(), 0);
    for (number, prompt) in prompts.iter().enumerate() {
        reader.guard.check()?;
        let tokens = reader.task_tokens(&prompt.as_str().into())?;
        let options = GenerateOptions {
            temperature: (temperature > 0.0).then_some(temperature),
            seed: seed.wrapping_add(number as u64),
            ..GenerateOptions::greedy(max_new_tokens)
        };
        let mut cache = context.full.cache.fork();
        let (_, queries) = context.worker().generate_capturing(&mut cache, &tokens, &options)?;
        read += cache.logical_len() - context.seq_len();
        parts.push(queries);
    }
    Ok((context.model().join_queries(&parts)?, read))
}
