//! Public GGUF files as they come, against what llama.cpp makes of the same files. They run where
//! `LATENT_BRIEFING_REAL_MODELS` names the folder of the files; `tools/peers` makes the expected values.

use std::path::PathBuf;

use lb_model::Worker;

use crate::support::checkpoints::{golden_json, ids};

/// The files of the golden that are there.
fn workers() -> Vec<(String, Worker)> {
    let Some(folder) = std::env::var_os("LATENT_BRIEFING_REAL_MODELS").map(PathBuf::from) else {
        eprintln!("skipped: LATENT_BRIEFING_REAL_MODELS names no folder of models");
        return Vec::new();
    };
    let golden = golden_json("real_files");
    let names = golden["models"].as_object().unwrap().keys().cloned();
    let found: Vec<String> = names.filter(|name| folder.join(name).is_file()).collect();
    assert!(!found.is_empty(), "{} has none of the files", folder.display());
    found.into_iter().map(|name| (name.clone(), Worker::load(folder.join(name)).unwrap())).collect()
}

#[test]
fn texts_have_the_tokens_of_llama_cpp() {
    let golden = golden_json("real_files");
    for (name, worker) in workers() {
        let (model, tokenizer) = (&golden["models"][&name], worker.tokenizer());
        for (index, text) in golden["texts"].as_array().unwrap().iter().enumerate() {
            let text = text.as_str().unwrap();
            let tokens = tokenizer.encode_text(text).unwrap();
            // llama.cpp brings no text to normal form C, which Qwen's own tokenizer does, and takes Gemma's `<b>` in a text for
            // one token, where added tokens of a text are spelled here.
            let own = model["own"]["text"] == index;
            let expected = if own { &model["own"]["ids"] } else { &model["ids"][index] };
            assert_eq!(tokens, ids(expected), "{name}: {text:?}");
            let lossy = own || text.bytes().any(|byte| tokenizer.missing_bytes().contains(&byte));
            assert!(lossy || tokenizer.decode(&tokens).unwrap() == text, "{name}: {text:?}");
        }
    }
}

/// Greedy continuations, from where the choices are clear to where llama.cpp's rounding of activations (to 8 bits, as
/// here) and transformers' f32 part.
#[test]
fn greedy_continuations_are_those_of_llama_cpp() {
    let golden = golden_json("real_files");
    for (name, worker) in workers() {
        for case in golden["models"][&name]["prompts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let tokens = ids(&case["tokens"]);
            assert!(tokens.starts_with(&worker.tokenizer().encode_prompt(text).unwrap()), "{name}: {text:?}");
            let mut cache = worker.model().new_cache();
            let mut next = worker.model().forward(&tokens, &mut cache).unwrap();
            for (step, expected) in ids(&case["greedy"]).into_iter().enumerate() {
                let token = next.argmax(0).unwrap().to_scalar::<u32>().unwrap();
                assert_eq!(token, expected, "{name}: {text:?}, step {step}");
                next = worker.model().forward(&[token], &mut cache).unwrap();
            }
        }
    }
}
