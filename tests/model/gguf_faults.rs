//! GGUF files that are wrong in one way each, or damaged anywhere.

use std::fs;

use lb_model::{Checkpoint, Error, GgufFormat};
use rand::Rng;

use super::gguf::{Written, load, logits};
use crate::support::assert_error;
use crate::support::caches::rng;
use crate::support::checkpoints::{TIED, prompt};
use crate::support::gguf_bytes::{Gguf, Value};
use crate::support::random_checkpoint::Random;

/// A small file that a test may spoil.
fn small() -> (Written, Gguf) {
    let folder = Random::of("qwen3");
    let file = Written::of(&Checkpoint::dir(folder.path()).unwrap(), GgufFormat::Q8_0);
    let mut gguf = Gguf::read(&file.path());
    gguf.values.retain(|(key, _)| key != "tokenizer.huggingface.json");
    (file, gguf)
}

/// The error of loading a file that `edit` has spoilt.
fn spoilt(edit: impl FnOnce(&mut Gguf)) -> Error {
    let (file, mut gguf) = small();
    edit(&mut gguf);
    gguf.write(&file.path());
    load(&file.path()).expect_err("a spoilt file must not load")
}

#[test]
fn a_file_taken_apart_and_put_together_is_itself() {
    let (file, gguf) = small();
    let reference = logits(&file.load(), &prompt(TIED));
    gguf.write(&file.path());
    assert_eq!(logits(&file.load(), &prompt(TIED)), reference);
}

#[test]
fn headers_that_do_not_fit_are_named() {
    let (file, _) = small();
    let bytes = fs::read(file.path()).unwrap();
    let header = |place: usize, with: &[u8], word: &str| {
        let mut bytes = bytes.clone();
        bytes[place..place + with.len()].copy_from_slice(with);
        fs::write(file.path(), bytes).unwrap();
        assert_error!(load(&file.path()).unwrap_err(), Error::Corrupt { .. }, "model.gguf", word);
    };
    header(0, b"GGML", "begin with GGUF");
    header(4, &1u32.to_le_bytes(), "version 1");
    header(4, &3u32.to_be_bytes(), "big-endian");
    header(8, &(1u64 << 60).to_le_bytes(), "1152921504606846976 tensors");
    header(16, &(1u64 << 60).to_le_bytes(), "1152921504606846976 metadata");
    header(24, &(1u64 << 60).to_le_bytes(), "a string of 1152921504606846976 bytes");
    let empty: [&[u8]; 3] = [b"", b"GGU", b"GGUF"];
    for bytes in empty {
        fs::write(file.path(), bytes).unwrap();
        assert_error!(load(&file.path()).unwrap_err(), Error::Corrupt { .. }, "model.gguf");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    const NORM: &str = "blk.0.attn_norm.weight";
    const Q: &str = "blk.1.attn_q.weight";
    let twice = spoilt(|g| {
        let copy = g.tensors[0].clone();
        g.tensors.push(copy);
    });
    assert_error!(twice, Error::Corrupt { .. }, "appears twice");
    assert_error!(spoilt(|g| g.offset_of(NORM, |_| 1 << 50)), Error::Corrupt { .. }, NORM, "outside");
    assert_error!(spoilt(|g| g.offset_of(NORM, |_| u64::MAX - 31)), Error::Corrupt { .. }, NORM, "outside");
    assert_error!(spoilt(|g| g.offset_of(NORM, |at| at + 4)), Error::Corrupt { .. }, NORM, "aligned");
    assert_error!(spoilt(|g| g.offset_of("output_norm.weight", |_| 0)), Error::Corrupt { .. }, "overlap");
    assert_error!(spoilt(|g| g.tensor(Q).dims[1] = 1 << 62), Error::Corrupt { .. }, Q, "absurd");
    assert_error!(spoilt(|g| g.tensor(Q).dims[0] = 0), Error::Corrupt { .. }, Q, "absurd");
    assert_error!(spoilt(|g| g.tensor(Q).dims[0] -= 1), Error::Corrupt { .. }, Q, "whole blocks of Q8_0");
    assert_error!(spoilt(|g| g.tensor(Q).dims[1] -= 2), Error::TensorShape { .. }, Q);
    assert_error!(spoilt(|g| g.tensor(Q).kind = 23), Error::TensorDtype { .. }, Q, "IQ4_XS");
    assert_error!(spoilt(|g| g.tensor(Q).kind = 777), Error::TensorDtype { .. }, Q, "number 777");
    assert_error!(spoilt(|g| g.tensor(Q).name = "blk.1.attn_p".into()), Error::MissingTensor { .. }, Q);
    assert_error!(
        spoilt(|g| g.tensors.retain(|t| t.name != "token_embd.weight")),
        Error::MissingTensor { .. },
        "token_embd"
    );
    let extra = spoilt(|g| {
        let mut extra = g.tensor(NORM).clone();
        (extra.name, extra.offset) = ("blk.0.attn_sinks.weight".into(), g.data.len() as u64);
        g.data.extend(vec![0; 4096]);
        g.tensors.push(extra);
    });
    assert_error!(extra, Error::UnexpectedTensors { .. }, "attn_sinks");
    let nan = spoilt(|g| {
        let at = usize::try_from(g.tensor(Q).offset).unwrap();
        g.data[at..at + 2].copy_from_slice(&0x7E00u16.to_le_bytes());
    });
    assert_error!(nan, Error::NonFinite { .. }, Q);
}

#[test]
fn metadata_that_is_not_supported_is_named() {
    let set = |key: &'static str, value: Value| spoilt(move |g| g.set(key, value));
    let text = |s: &str| Value::Text(s.to_owned());
    assert_error!(
        set("general.architecture", text("mamba")),
        Error::UnsupportedConfig { .. },
        "mamba",
        "qwen3moe"
    );
    assert_error!(set("split.count", Value::U32(3)), Error::UnsupportedConfig { .. }, "split.count");
    assert_error!(set("qwen3.logit_scale", Value::F32(2.0)), Error::UnsupportedConfig { .. }, "logit_scale");
    assert_error!(set("qwen3.expert_count", Value::U32(8)), Error::UnsupportedConfig { .. }, "expert_count");
    let window = set("qwen3.attention.sliding_window", Value::U32(64));
    assert_error!(window, Error::UnsupportedConfig { .. }, "sliding_window", "full attention");
    assert_error!(
        set("qwen3.rope.dimension_count", Value::U32(2)),
        Error::UnsupportedConfig { .. },
        "dimension_count"
    );
    assert_error!(
        set("qwen3.rope.scaling.type", text("longrope")),
        Error::UnsupportedConfig { .. },
        "longrope"
    );
    assert_error!(set("qwen3.block_count", text("two")), Error::FieldType { .. }, "block_count", "a string");
    assert_error!(set("qwen3.block_count", Value::U32(0)), Error::Config { .. }, "num_hidden_layers");
    assert_error!(set("qwen3.block_count", Value::U32(1)), Error::UnexpectedTensors { .. }, "blk.1.");
    assert_error!(set("qwen3.embedding_length", Value::U32(7)), Error::TensorShape { .. }, "token_embd");
    assert_error!(set("qwen3.vocab_size", Value::U32(7)), Error::TensorShape { .. }, "token_embd");
    assert_error!(set("general.alignment", Value::U32(0)), Error::Corrupt { .. }, "general.alignment");
    let heads = set("qwen3.attention.head_count_kv", Value::U32s(vec![2, 1]));
    assert_error!(heads, Error::UnsupportedConfig { .. }, "head_count_kv", "every layer");
    let missing = spoilt(|g| g.values.retain(|(key, _)| key != "qwen3.context_length"));
    assert_error!(missing, Error::MissingField { .. }, "qwen3.context_length");
    assert_error!(set("tokenizer.ggml.pre", text("klingon")), Error::UnsupportedConfig { .. }, "klingon");
    assert_error!(set("tokenizer.ggml.model", text("bert")), Error::UnsupportedConfig { .. }, "bert");
    assert_error!(
        set("tokenizer.ggml.token_type", Value::U32s(vec![1])),
        Error::Corrupt { .. },
        "token types"
    );
    let twice = spoilt(|g| g.values.push(("general.name".into(), Value::U32(1))));
    assert_error!(twice, Error::Corrupt { .. }, "general.name", "twice");
    // What says nothing is allowed, and a list of equal counts is a count.
    let (file, mut gguf) = small();
    gguf.set("qwen3.rope.scaling.type", text("none"));
    gguf.set("qwen3.logit_scale", Value::F32(1.0));
    gguf.set("qwen3.attention.head_count_kv", Value::U32s(vec![2, 2]));
    gguf.write(&file.path());
    assert_eq!(file.load().config().num_key_value_heads, 2);
}

/// Cut or changed at 200 places each: an error with a name or a model that runs, never a panic.
#[test]
fn damaged_files_end_in_an_error_or_a_model() {
    let (file, _) = small();
    let bytes = fs::read(file.path()).unwrap();
    let mut rng = rng(7);
    let tokens = &prompt(TIED)[..6];
    let (mut failed, mut loaded) = (0, 0);
    let mut check = |bytes: &[u8]| {
        fs::write(file.path(), bytes).unwrap();
        match load(&file.path()) {
            Err(_) => failed += 1,
            Ok(worker) => {
                loaded += 1;
                let tokens: Vec<u32> = tokens.iter().map(|t| t % worker.config().vocab_size as u32).collect();
                let _ = worker.model().forward(&tokens, &mut worker.model().new_cache());
                let _ = worker.tokenizer().encode_text("one two <|im_end|>");
            }
        }
    };
    let header = bytes.len() / 4;
    for i in 0..200 {
        let end = if i % 2 == 0 { header } else { bytes.len() };
        check(&bytes[..rng.random_range(0..end)]);
        let mut changed = bytes.clone();
        let place = rng.random_range(0..end);
        changed[place] ^= 1 << rng.random_range(0..8);
        check(&changed);
    }
    assert!(failed > 200 && loaded > 20, "{failed} failed, {loaded} loaded");
}
