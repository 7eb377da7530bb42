//! What the service tells, as the front end hears it.

use dynamo_backend_common::{
    BackendError, CompletionUsage, DynamoError, ErrorType, FinishReason, LLMEngineOutput,
    PromptTokensDetails, TopLogprob,
};
use lb_serve::{Finish, Refusal, Usage, Written};
use serde_json::json;

/// A token.
pub(crate) fn token(written: Written) -> LLMEngineOutput {
    let log_probs = written.log_prob.map(|log_prob| vec![f64::from(log_prob)]);
    let likeliest = (0..).zip(written.likeliest).map(|(rank, (id, text, log_prob))| TopLogprob {
        rank,
        token_id: id,
        bytes: Some(text.as_bytes().to_vec()),
        token: Some(text),
        logprob: f64::from(log_prob),
    });
    let top_logprobs = log_probs.is_some().then(|| vec![likeliest.collect()]);
    LLMEngineOutput { token_ids: vec![written.id], log_probs, top_logprobs, ..Default::default() }
}

/// The end, with what the answer cost. `generated` tokens came before.
pub(crate) fn end(finish: &Finish, cost: Option<&Usage>, generated: usize) -> LLMEngineOutput {
    let mut end = match finish {
        Finish::Length => LLMEngineOutput::length(),
        Finish::End | Finish::Stop(_) => LLMEngineOutput::stop(),
    };
    if let Some(cost) = cost {
        let count = |positions: usize| u32::try_from(positions).unwrap_or(u32::MAX);
        let (prompt, completion) = (count(cost.attended), count(generated));
        let details = PromptTokensDetails { cached_tokens: Some(count(cost.reused)), ..Default::default() };
        end.completion_usage = Some(CompletionUsage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt.saturating_add(completion),
            prompt_tokens_details: Some(details),
            completion_tokens_details: None,
        });
        end.engine_data = Some(json!({ "latent_briefing": cost }));
    }
    end
}

/// Called off by whoever asked.
pub(crate) fn cancelled() -> LLMEngineOutput {
    LLMEngineOutput { finish_reason: Some(FinishReason::Cancelled), ..Default::default() }
}

/// Why there is no answer, or no more of it. A front end with a migration limit asks another worker where this one is full or ends.
pub(crate) fn refused(refusal: &Refusal) -> DynamoError {
    let kind = match refusal {
        Refusal::Absent { .. } | Refusal::Route(_) => ErrorType::NotFound,
        Refusal::Conflict(_) => ErrorType::Conflict,
        Refusal::TooLarge(_) => ErrorType::PayloadTooLarge,
        Refusal::Busy { .. } => ErrorType::WorkerOverloaded,
        Refusal::Deadline(_) => ErrorType::DeadlineExceeded,
        Refusal::Cancelled => ErrorType::Cancelled,
        Refusal::Draining => ErrorType::Backend(BackendError::EngineShutdown),
        Refusal::Store(_) => ErrorType::Unavailable,
        refusal if refusal.status() < 500 => ErrorType::InvalidRequest,
        _ => ErrorType::Internal,
    };
    told(kind, refusal.to_string())
}

/// An error whose text whoever asks may read.
pub(crate) fn told(kind: ErrorType, text: String) -> DynamoError {
    DynamoError::builder().error_type(kind).message(text.clone()).public_message(text).build()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_worker_that_is_full_or_ends_is_told_from_a_request_that_is_wrong() {
        let kind = |refusal: Refusal| refused(&refusal).error_type();
        assert_eq!(kind(Refusal::Draining), ErrorType::Backend(BackendError::EngineShutdown));
        assert_eq!(kind(Refusal::Busy { after: 1 }), ErrorType::WorkerOverloaded);
        assert_eq!(kind(Refusal::TooLong("x".to_owned())), ErrorType::InvalidRequest);
        assert_eq!(kind(Refusal::Absent { what: "trajectory", name: "t".to_owned() }), ErrorType::NotFound);
        assert_eq!(kind(Refusal::Deadline(Duration::ZERO)), ErrorType::DeadlineExceeded);
        assert_eq!(kind(Refusal::Internal("x".to_owned())), ErrorType::Internal);
    }
}
