//! What the front end made of a request, as the service takes it.

use dynamo_backend_common::{DynamoError, ErrorType, PreprocessedRequest, SamplingOptions};
use lb_model::Tokenizer;
use lb_serve::Manner;
use serde::Deserialize;
use serde_json::Value;

use crate::card::MARK;
use crate::reply::told;

/// Tokens that are looked at for the mark, control tokens before it left out.
const LOOKED: usize = 64;

/// A request.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A prompt to go on with.
    Prompt(Vec<u32>),
    /// A question about a trajectory, as JSON.
    Briefed { briefing: Value, messages: Value },
}

/// What the template writes in the place of a prompt.
#[derive(Deserialize)]
struct Said {
    briefing: Value,
    messages: Value,
}

/// What is asked, and how it is to be answered.
pub(crate) fn read(
    request: &PreprocessedRequest,
    tokenizer: &Tokenizer,
) -> Result<(Asked, Manner), DynamoError> {
    supported(request)?;
    let mut manner = manner(request);
    let tokens = request.token_ids.as_slice();
    let Some(from) = marked(tokens, tokenizer) else { return Ok((Asked::Prompt(tokens.to_vec()), manner)) };
    let pieces = tokenizer.pieces(&tokens[from..]);
    let text = pieces.concat();
    let json = text.strip_prefix(MARK).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Said>();
    let said = match values.next() {
        Some(Ok(said)) => said,
        Some(Err(error)) => return Err(invalid(format!("the request as the template wrote it: {error}"))),
        None => return Err(invalid("the request as the template wrote it is empty")),
    };
    // Behind it stands what another worker has written, where the front end moved the request.
    let end = MARK.len() + values.byte_offset();
    let mut length = 0;
    let shown = pieces.iter().take_while(|piece| {
        let before = length < end;
        length += piece.len();
        before
    });
    let read = from + shown.count();
    manner.written = tokens[read..].to_vec();
    Ok((Asked::Briefed { briefing: said.briefing, messages: said.messages }, manner))
}

/// Where the text with the mark begins.
fn marked(tokens: &[u32], tokenizer: &Tokenizer) -> Option<usize> {
    let control = |token: &u32| {
        tokenizer.token_str(*token).is_some_and(|text| tokenizer.added_tokens().contains(&text))
    };
    let from = tokens.iter().take_while(|token| control(token)).count();
    let looked = &tokens[from..tokens.len().min(from + LOOKED)];
    tokenizer.decode(looked).is_ok_and(|text| text.starts_with(MARK)).then_some(from)
}

fn manner(request: &PreprocessedRequest) -> Manner {
    let (stop, sampling) = (&request.stop_conditions, &request.sampling_options);
    let mut manner = Manner::default();
    manner.max_tokens = stop.max_tokens.map(|most| most as usize);
    manner.temperature = sampling.temperature.map(widened);
    manner.top_p = sampling.top_p.map(widened);
    manner.top_k = sampling.top_k.map(|k| usize::try_from(k).unwrap_or(0));
    manner.seed = sampling.seed;
    manner.stop = stop.stop.clone().unwrap_or_default();
    // Those that are to be seen are not ended with: the front end does, and calls the rest off.
    let hidden = [&stop.stop_token_ids, &stop.stop_token_ids_hidden];
    manner.stop_tokens = hidden.into_iter().flatten().flatten().copied().collect();
    manner.ignores_end = stop.ignore_eos.unwrap_or(false);
    manner.log_probs = request.output_options.logprobs.map(|most| most as usize);
    manner
}

/// The number that was written: 0.7 came as the nearest of 32 bits, and is meant as the nearest of 64.
fn widened(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// What would change the answer and is not done is refused by name.
fn supported(request: &PreprocessedRequest) -> Result<(), DynamoError> {
    let SamplingOptions {
        n,
        best_of,
        presence_penalty,
        frequency_penalty,
        repetition_penalty,
        min_p,
        use_beam_search,
        guided_decoding,
        ..
    } = &request.sampling_options;
    let other =
        |value: Option<f32>, neutral: f32| value.is_some_and(|value| (value - neutral).abs() > f32::EPSILON);
    let media = request.multi_modal_data.as_ref().is_some_and(|media| !media.is_empty());
    let adapter = request.routing.as_ref().is_some_and(|routing| routing.lora_name.is_some());
    let min_tokens = request.stop_conditions.min_tokens.is_some_and(|least| least > 0);
    let refused = [
        ("n", n.is_some_and(|n| n > 1)),
        ("best_of", best_of.is_some_and(|best| best > 1)),
        ("presence_penalty", other(*presence_penalty, 0.0)),
        ("frequency_penalty", other(*frequency_penalty, 0.0)),
        ("repetition_penalty", other(*repetition_penalty, 1.0)),
        ("min_p", other(*min_p, 0.0)),
        ("use_beam_search", use_beam_search.unwrap_or(false)),
        ("guided_decoding", guided_decoding.is_some()),
        ("min_tokens", min_tokens),
        ("prompt_logprobs", request.output_options.prompt_logprobs.is_some()),
        ("prompt_embeds", request.prompt_embeds.is_some()),
        ("multi_modal_data", media),
        ("lora", adapter),
    ];
    match refused.into_iter().find(|(_, asked)| *asked) {
        Some((name, _)) => {
            Err(invalid(format!("{name} is not supported: the answer would not be what it asks for")))
        }
        None => Ok(()),
    }
}

fn invalid(message: impl Into<String>) -> DynamoError {
    told(ErrorType::InvalidRequest, message.into())
}

#[cfg(test)]
mod tests {
    use dynamo_backend_common::{OutputOptions, StopConditions};
    use lb_model::Worker;
    use serde_json::json;

    use super::*;

    fn request(tokens: Vec<u32>) -> PreprocessedRequest {
        PreprocessedRequest::builder()
            .model("latent-briefing".to_owned())
            .token_ids(tokens)
            .stop_conditions(StopConditions::default())
            .sampling_options(SamplingOptions::default())
            .output_options(OutputOptions::default())
            .build()
            .unwrap()
    }

    #[test]
    fn a_briefing_is_read_from_the_prompt_and_what_follows_is_written_already() {
        let worker = Worker::embedded().unwrap();
        let tokenizer = worker.tokenizer();
        let said = json!({ "briefing": { "trajectory": "t" }, "messages": [{ "role": "user", "content": "}} Ä?" }] });
        let mut tokens = tokenizer.encode_prompt(&format!("{MARK}{said}")).unwrap();
        let whole = |tokens: &[u32]| match read(&request(tokens.to_vec()), tokenizer).unwrap() {
            (Asked::Briefed { briefing, messages }, manner) => {
                assert_eq!(json!({ "briefing": briefing, "messages": messages }), said);
                manner.written
            }
            (other, _) => panic!("{other:?}"),
        };
        assert!(whole(&tokens).is_empty());
        let written = tokenizer.encode_text(" Ana keeps it.").unwrap();
        tokens.extend(&written);
        assert_eq!(whole(&tokens), written);
        // As a model begins whose prompts open with a control token.
        tokens.insert(0, tokenizer.eos_ids()[0]);
        assert_eq!(whole(&tokens), written);
    }

    #[test]
    fn any_other_prompt_is_one() {
        let worker = Worker::embedded().unwrap();
        for text in ["The ledger", "", "{\"briefing\": {}}", "latent-briefing requests: {}"] {
            let tokens = worker.tokenizer().encode_prompt(text).unwrap();
            let (asked, manner) = read(&request(tokens.clone()), worker.tokenizer()).unwrap();
            assert!(matches!(asked, Asked::Prompt(own) if own == tokens), "{text}");
            assert!(manner.written.is_empty());
        }
    }

    #[test]
    fn a_request_that_is_cut_is_refused() {
        let worker = Worker::embedded().unwrap();
        for json in ["", "{\"briefing\": {}", "{\"briefing\": {}}", "[1]", "{\"messages\": []}"] {
            let tokens = worker.tokenizer().encode_prompt(&format!("{MARK}{json}")).unwrap();
            let refused = read(&request(tokens), worker.tokenizer()).unwrap_err();
            assert_eq!(refused.error_type(), ErrorType::InvalidRequest, "{json}");
        }
    }

    #[test]
    fn what_is_said_of_the_answer_is_taken_over_or_refused() {
        let worker = Worker::embedded().unwrap();
        let mut asked = request(vec![1]);
        asked.sampling_options.temperature = Some(0.7);
        asked.sampling_options.top_k = Some(-1);
        asked.stop_conditions.max_tokens = Some(9);
        asked.stop_conditions.stop = Some(vec!["x".to_owned()]);
        asked.stop_conditions.stop_token_ids = Some(vec![3]);
        asked.stop_conditions.stop_token_ids_hidden = Some(vec![4]);
        let manner = read(&asked, worker.tokenizer()).unwrap().1;
        assert_eq!((manner.temperature, manner.top_k, manner.max_tokens), (Some(0.7), Some(0), Some(9)));
        assert_eq!((manner.stop, manner.stop_tokens), (vec!["x".to_owned()], vec![3, 4]));
        asked.sampling_options.repetition_penalty = Some(1.0);
        assert!(read(&asked, worker.tokenizer()).is_ok());
        asked.sampling_options.repetition_penalty = Some(1.1);
        let refused = read(&asked, worker.tokenizer()).unwrap_err();
        assert!(refused.message().starts_with("repetition_penalty"), "{refused}");
    }
}
