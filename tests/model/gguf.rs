//! GGUF files: the built-in worker and the golden checkpoints in every format, tokenizers from metadata.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device};
use latent_briefing::am::Compaction;
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::prelude::*;
use lb_model::{Checkpoint, Error, GgufFormat, Tokenizer, Worker};
use tempfile::TempDir;

use crate::support::assert_error;
use crate::support::checkpoints::{GROUPED, TIED, golden, golden_json, ids, prompt, worker};
use crate::support::compare::assert_same;
use crate::support::embedded;
use crate::support::gguf_bytes::{Gguf, Value};
use crate::support::random_checkpoint::{FAMILIES, Random};

/// Largest difference of a logit from those of the f32 model, relative to their range, on the golden prompt of the
/// built-in worker: at most twice what was measured. Its rows of 192 are no whole blocks of 256, so formats of such
/// blocks fall back to those of 32, as in llama.cpp. Its weights are bf16 and small enough for f16 to lose nothing.
const ERRORS: [(GgufFormat, f32); 13] = [
    (GgufFormat::F32, 2e-6),
    (GgufFormat::F16, 2e-6),
    (GgufFormat::Bf16, 2e-6),
    (GgufFormat::Q8_0, 2.7e-2),
    (GgufFormat::Q6K, 2.7e-2),
    (GgufFormat::Q5KM, 9e-2),
    (GgufFormat::Q4KM, 1.1e-1),
    (GgufFormat::Q3K, 2.3e-1),
    (GgufFormat::Q2K, 2.3e-1),
    (GgufFormat::Q5_1, 9e-2),
    (GgufFormat::Q5_0, 1.1e-1),
    (GgufFormat::Q4_1, 3.8e-1),
    (GgufFormat::Q4_0, 2.3e-1),
];

/// Mean difference, relative to the range, between products with blocks and with the numbers that the blocks stand
/// for: sums in another order.
const SUMS: f32 = 1e-5;

/// A checkpoint written to a file of its own folder.
pub(super) struct Written {
    folder: TempDir,
}

impl Written {
    pub(super) fn of(checkpoint: &Checkpoint, format: GgufFormat) -> Self {
        let written = Self { folder: TempDir::new().unwrap() };
        checkpoint.write_gguf(written.path(), format).unwrap();
        assert_eq!(fs::read_dir(&written.folder).unwrap().count(), 1, "no temporary file stays");
        written
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    pub(super) fn load(&self) -> Worker {
        load(&self.path()).unwrap()
    }
}

pub(super) fn load(path: &Path) -> Result<Worker, Error> {
    Checkpoint::gguf(path)?.load(&Device::Cpu, None)
}

pub(super) fn logits(worker: &Worker, tokens: &[u32]) -> Vec<f32> {
    let mut cache = worker.model().new_cache();
    worker.model().forward_all(tokens, &mut cache).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference relative to the range of `reference`.
fn error(reference: &[f32], other: &[f32]) -> f32 {
    assert_eq!(reference.len(), other.len());
    assert!(other.iter().all(|x| x.is_finite()));
    let range = reference.iter().copied().fold(f32::MIN, f32::max)
        - reference.iter().copied().fold(f32::MAX, f32::min);
    reference.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / range
}

/// Mean difference relative to the range of `reference`.
fn mean_error(reference: &[f32], other: &[f32]) -> f32 {
    error(reference, other);
    let range = reference.iter().copied().fold(f32::MIN, f32::max)
        - reference.iter().copied().fold(f32::MAX, f32::min);
    let sum: f32 = reference.iter().zip(other).map(|(a, b)| (a - b).abs()).sum();
    sum / reference.len() as f32 / range
}

#[test]
fn every_format_keeps_the_logits_of_the_built_in_worker() {
    let tokens = ids(&golden_json("default_worker")["tokens"]);
    let reference = logits(embedded(), &tokens);
    assert_eq!(GgufFormat::all().count(), ERRORS.len());
    for (format, bound) in ERRORS {
        let written = Written::of(&Checkpoint::embedded(), format);
        let found = error(&reference, &logits(&written.load(), &tokens));
        assert!(found <= bound, "{}: {found:e} above {bound:e}", format.name());
    }
}

/// All families and both rotary orders; tied and untied heads, biases, experts in one tensor, frequency factors.
#[test]
fn every_family_survives_the_way_through_a_file() {
    let goldens = [TIED, GROUPED].map(|name| Checkpoint::dir(golden(name)).unwrap());
    let folders: Vec<Random> = FAMILIES.iter().map(|family| Random::of(family)).collect();
    let random = folders.iter().map(|folder| Checkpoint::dir(folder.path()).unwrap());
    for checkpoint in goldens.into_iter().chain(random) {
        let original = checkpoint.load(&Device::Cpu, None).unwrap();
        let reference = logits(&original, &prompt(TIED));
        // Mean errors: a token of a mixture that goes to another expert has large ones.
        for (format, bound) in [(GgufFormat::F32, 1e-6), (GgufFormat::F16, 1e-3), (GgufFormat::Q8_0, 1e-2)] {
            let worker = Written::of(&checkpoint, format).load();
            let found = mean_error(&reference, &logits(&worker, &prompt(TIED)));
            assert!(found < bound, "{:?} as {}: {found:e}", original.config().family, format.name());
            let (a, b) = (original.config(), worker.config());
            assert_eq!((a.tie_word_embeddings, a.biases), (b.tie_word_embeddings, b.biases));
            assert_eq!(a.experts, b.experts);
        }
    }
}

/// The same file with every tensor as the f32 numbers that it stands for, by candle's own reader.
fn dequantised(path: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut file = fs::File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut gguf = Gguf::read(path);
    gguf.data.clear();
    for tensor in &mut gguf.tensors {
        let blocks = content.tensor(&mut file, &tensor.name, &Device::Cpu).unwrap();
        let numbers =
            blocks.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (tensor.kind, tensor.offset) = (0, gguf.data.len() as u64);
        gguf.data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        gguf.data.resize(gguf.data.len().next_multiple_of(32), 0);
    }
    gguf.write(&folder.path().join("model.gguf"));
    folder
}

/// Blocks of 256 and of 32, row orders of Llama, experts cut from one tensor: the products are those of the numbers.
#[test]
fn blocks_stand_for_their_numbers() {
    for family in ["qwen3", "llama", "qwen3_moe"] {
        let folder = Random::wide(family);
        let checkpoint = Checkpoint::dir(folder.path()).unwrap();
        let original = logits(&checkpoint.load(&Device::Cpu, None).unwrap(), &prompt(TIED));
        for format in GgufFormat::all() {
            let file = Written::of(&checkpoint, format);
            let numbers = dequantised(&file.path());
            let reference = logits(&load(&numbers.path().join("model.gguf")).unwrap(), &prompt(TIED));
            let found = logits(&file.load(), &prompt(TIED));
            let (own, from_f32) = (mean_error(&reference, &found), mean_error(&original, &found));
            assert!(own < SUMS, "{family} as {}: {own:e}", format.name());
            // The weights really are coarse where they should be.
            let coarse = matches!(format, GgufFormat::Q2K | GgufFormat::Q3K);
            assert!(!coarse || from_f32 > 10.0 * own, "{family} as {}: {from_f32:e}", format.name());
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let expected = golden_json("default_worker");
    let tokens = ids(&expected["tokens"]);
    for format in [GgufFormat::F16, GgufFormat::Q8_0] {
        let worker = Written::of(&Checkpoint::embedded(), format).load();
        let mut cache = worker.model().new_cache();
        let mut next = worker.model().forward(&tokens, &mut cache).unwrap();
        for (step, expected) in ids(&expected["greedy"]).into_iter().enumerate() {
            let token = next.argmax(0).unwrap().to_scalar::<u32>().unwrap();
            assert_eq!(token, expected, "{} step {step}", format.name());
            next = worker.model().forward(&[token], &mut cache).unwrap();
        }
    }
}

#[test]
fn a_narrow_cache_over_quantised_weights() {
    let tokens = ids(&golden_json("default_worker")["tokens"]);
    let file = Written::of(&Checkpoint::embedded(), GgufFormat::Q8_0);
    let reference = logits(&file.load(), &tokens);
    for (dtype, bound) in [(DType::F16, 1e-2), (DType::BF16, 4e-2)] {
        let worker = Checkpoint::gguf(file.path()).unwrap().load(&Device::Cpu, Some(dtype)).unwrap();
        assert_eq!((worker.dtype(), worker.model().compute_dtype()), (dtype, DType::F32));
        let found = error(&reference, &logits(&worker, &tokens));
        assert!(found > 0.0 && found < bound, "{dtype:?}: {found:e}");
    }
}

/// Chunked prefill, and rows of one token, run through other kernels than a whole prompt.
#[test]
fn tokens_one_by_one_are_the_prompt_at_once() {
    let tokens = &ids(&golden_json("default_worker")["tokens"])[..40];
    for format in [GgufFormat::Q4KM, GgufFormat::Q8_0, GgufFormat::F16] {
        let worker = Written::of(&Checkpoint::embedded(), format).load();
        let whole = logits(&worker, tokens);
        let mut cache = worker.model().new_cache();
        let mut single = Vec::new();
        for token in tokens {
            single.extend(worker.model().forward(&[*token], &mut cache).unwrap().to_vec1::<f32>().unwrap());
        }
        let found = error(&whole, &single);
        assert!(found < 1e-5, "{}: {found:e}", format.name());
    }
}

#[test]
fn the_tokenizer_comes_back() {
    let text = "Grüße, 東京 42! <|im_end|> <think>\n\n\tx  y\u{1F600} I'll they've e\u{301}";
    for (name, checkpoint) in [
        ("embedded", Checkpoint::embedded()),
        (TIED, Checkpoint::dir(golden(TIED)).unwrap()),
        (GROUPED, Checkpoint::dir(golden(GROUPED)).unwrap()),
    ] {
        let original = checkpoint.load(&Device::Cpu, None).unwrap();
        let read = Written::of(&checkpoint, GgufFormat::F16).load();
        let (a, b) = (original.tokenizer(), read.tokenizer());
        for text in [text, golden_json("default_worker")["text"].as_str().unwrap()] {
            assert_eq!(a.encode_text(text).unwrap(), b.encode_text(text).unwrap(), "{name}");
            assert_eq!(a.encode_template(text).unwrap(), b.encode_template(text).unwrap(), "{name}");
            let tokens = a.encode_template(text).unwrap();
            assert_eq!(a.decode(&tokens).unwrap(), b.decode(&tokens).unwrap(), "{name}");
        }
        assert_eq!(a.vocab_size(), b.vocab_size());
        assert_eq!(original.template().unwrap().source(), read.template().unwrap().source());
        let ends = original.tokenizer().eos_ids();
        assert!(!ends.is_empty() && ends.iter().all(|id| read.tokenizer().eos_ids().contains(id)), "{name}");
    }
}

/// The metadata of a Llama 2 style tokenizer: pieces, scores by the rank of the merge that makes them, kinds.
fn sentence_pieces(tokenizer: &serde_json::Value, vocab_size: usize) -> Vec<(String, Value)> {
    let list = |kind: u32, count: usize, items: Vec<u8>| {
        let head = [kind.to_le_bytes().to_vec(), (count as u64).to_le_bytes().to_vec()].concat();
        Value::Raw(9, [head, items].concat())
    };
    let mut pieces: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![5i32; vocab_size];
    let mut scores = vec![-1000f32; vocab_size];
    let mut ids = std::collections::HashMap::new();
    for (piece, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
        let id = id.as_u64().unwrap() as usize;
        ids.insert(piece.clone(), id);
        pieces[id].clone_from(piece);
        kinds[id] = match piece.as_str() {
            "<unk>" => 2,
            "<s>" | "</s>" => 3,
            byte if byte.starts_with("<0x") => 6,
            _ => 1,
        };
    }
    for (rank, merge) in tokenizer["model"]["merges"].as_array().unwrap().iter().enumerate() {
        let made: String = merge.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        scores[ids[&made]] = -(rank as f32);
    }
    let text =
        |piece: &String| [(piece.len() as u64).to_le_bytes().to_vec(), piece.clone().into_bytes()].concat();
    let bytes_of = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    vec![
        ("tokenizer.ggml.model".into(), Value::Text("llama".into())),
        ("tokenizer.ggml.tokens".into(), list(8, vocab_size, pieces.iter().flat_map(text).collect())),
        ("tokenizer.ggml.scores".into(), list(6, vocab_size, bytes_of(&scores))),
        (
            "tokenizer.ggml.token_type".into(),
            list(5, vocab_size, kinds.iter().flat_map(|kind| kind.to_le_bytes()).collect()),
        ),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(1)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(2)),
    ]
}

/// A Llama 2 style file, loaded as a whole: tokens, text and end tokens are those of the tokenizer.json it stands for.
#[test]
fn sentence_pieces_come_from_the_metadata() {
    let folder = Random::of("llama");
    let file = Written::of(&Checkpoint::dir(folder.path()).unwrap(), GgufFormat::Q8_0);
    let reference = golden("tokenizers/llama2/tokenizer.json");
    let json = serde_json::from_slice(&fs::read(&reference).unwrap()).unwrap();
    let reference = Tokenizer::load(&reference).unwrap();
    let mut gguf = Gguf::read(&file.path());
    gguf.values.retain(|(key, _)| !key.starts_with("tokenizer.") || key == "tokenizer.chat_template");
    gguf.values.extend(sentence_pieces(&json, file.load().config().vocab_size));
    gguf.write(&file.path());
    let worker = file.load();
    assert_eq!(worker.tokenizer().eos_ids(), [2]);
    for text in [
        "The ledger of Tromsø names three ships, the Aurora, the Nordlys and the Beacon.",
        "  two  spaces\n\nand lines </s> <s> 日本語 🧭",
        "",
        "x",
    ] {
        let tokens = reference.encode_prompt(text).unwrap();
        assert_eq!(worker.tokenizer().encode_prompt(text).unwrap(), tokens, "{text:?}");
        assert_eq!(worker.tokenizer().encode_text(text).unwrap(), reference.encode_text(text).unwrap());
        assert_eq!(worker.tokenizer().decode(&tokens).unwrap(), reference.decode(&tokens).unwrap());
    }
    let prompt = worker.tokenizer().encode_prompt("The ledger").unwrap();
    let logits = worker.model().forward(&prompt, &mut worker.model().new_cache()).unwrap();
    assert!(logits.max_all().unwrap().to_scalar::<f32>().unwrap().is_finite());
}

#[test]
fn a_quantised_worker_answers_from_a_briefing() {
    let config = EpisodeConfig::held_out((285, 400), 1);
    let file = Written::of(&Checkpoint::embedded(), GgufFormat::Q8_0);
    assert_eq!(Worker::load(file.path()).unwrap().name(), "model");
    let worker = file.load();
    let mut right = 0;
    for seed in 20_000..20_006 {
        let episode = Episode::generate(seed, &config).unwrap();
        let question = &episode.questions[0];
        let answers = [embedded(), &worker].map(|worker| {
            let mut session = worker.session().unwrap();
            session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {}).unwrap();
            let briefing = session.brief(question.text.as_str(), Compaction::keep_ratio(0.2)).unwrap();
            session.ask(question.text.as_str()).over(&briefing).run().unwrap().answer.text
        });
        assert_eq!(answers[0], answers[1], "{}", question.text);
        right += usize::from(answers[1].trim() == question.answer);
    }
    assert!(right >= 4, "{right} of 6 right");
}

#[test]
fn files_are_known_by_name_or_magic() {
    let file = Written::of(&Checkpoint::dir(golden(TIED)).unwrap(), GgufFormat::Q8_0);
    let other = file.path().with_extension("bin");
    fs::copy(file.path(), &other).unwrap();
    let [a, b] = [file.path(), other.clone()].map(|path| Worker::load(path).unwrap());
    let run =
        |worker: &Worker| worker.model().forward(&prompt(TIED), &mut worker.model().new_cache()).unwrap();
    assert_same(&run(&a), &run(&b));
    let again = Checkpoint::gguf(&other).unwrap().write_gguf(file.path(), GgufFormat::F32).unwrap_err();
    assert!(matches!(again, Error::UnsupportedConfig { .. }), "{again}");
}

#[test]
fn what_the_metadata_lacks_may_lie_beside_the_file() {
    let file = Written::of(&Checkpoint::dir(golden(TIED)).unwrap(), GgufFormat::F16);
    let mut gguf = Gguf::read(&file.path());
    gguf.values.retain(|(key, _)| !key.starts_with("tokenizer."));
    gguf.write(&file.path());
    assert_error!(load(&file.path()).unwrap_err(), Error::UnsupportedConfig { .. }, "tokenizer.json beside");
    for name in ["tokenizer.json", "chat_template.jinja"] {
        fs::copy(golden(TIED).join(name), file.folder.path().join(name)).unwrap();
    }
    let text = "Ünï <|im_end|> 12";
    let expected = worker(TIED).tokenizer().encode_text(text).unwrap();
    assert_eq!(file.load().tokenizer().encode_text(text).unwrap(), expected);
}
