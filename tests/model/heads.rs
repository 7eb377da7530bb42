//! Output heads and other tensors as real checkpoints hold them.

use candle_core::{DType, Device, Tensor};
use lb_model::{Checkpoint, Error, GenerateOptions, GgufFormat, Warning, Worker};
use tempfile::TempDir;

use crate::support::assert_error;
use crate::support::checkpoints::{Copy, GROUPED};
use crate::support::compare::assert_same;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

fn logits(worker: &Worker) -> Tensor {
    worker.model().forward_all(&[5, 6, 7], &mut worker.model().new_cache()).unwrap()
}

fn continued(worker: &Worker) -> Vec<u32> {
    let options = GenerateOptions::greedy(3);
    worker.generate(&mut worker.model().new_cache(), &[5, 6, 7], &options, &mut |_, _| true).unwrap().tokens
}

/// The embedding with its halves swapped, which no head of a tied checkpoint would be.
fn swapped(embedding: &Tensor) -> Tensor {
    let rows = embedding.dims()[0];
    let half = |from| embedding.narrow(0, from, rows / 2).unwrap();
    Tensor::cat(&[half(rows / 2), half(0)], 0).unwrap()
}

fn with_head(head: impl FnOnce(&Tensor) -> Tensor) -> Copy {
    let copy = Copy::of("llama3");
    copy.edit_tensors(|tensors| {
        let head = head(&tensors[EMBEDDING]);
        tensors.insert(HEAD.into(), head);
    });
    copy
}

/// `tie_word_embeddings` is true and the file holds another head: transformers uses it, and so does this crate.
#[test]
fn a_head_that_differs_is_used() {
    let copy = with_head(swapped);
    let worker = copy.load();
    assert_eq!(continued(&worker), [44, 16, 46], "transformers 5.2");
    assert!(matches!(worker.warnings(), [Warning::HeadOfItsOwn { .. }]), "{:?}", worker.warnings());
    assert!(!worker.config().tie_word_embeddings);
    let said = worker.warnings()[0].to_string();
    assert!(said.contains(HEAD) && said.contains("tie_word_embeddings"), "{said}");
    let checkpoint = Checkpoint::dir(copy.file("")).unwrap();
    assert_eq!(checkpoint.warnings().unwrap(), worker.warnings(), "known before anything is loaded");
    // Whatever is made of the checkpoint keeps the head.
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("model.gguf");
    checkpoint.write_gguf(&file, GgufFormat::Bf16).unwrap();
    assert_eq!(continued(&Worker::load(&file).unwrap()), [44, 16, 46]);
    let strict = checkpoint.strict();
    assert_error!(strict.load(&Device::Cpu, None).unwrap_err(), Error::Strict { .. }, HEAD);
}

/// The same bytes are no other head.
#[test]
fn a_head_that_is_the_embedding_says_nothing() {
    let own = logits(&Copy::of("llama3").load());
    let worker = with_head(Tensor::clone).load();
    assert!(worker.warnings().is_empty() && worker.config().tie_word_embeddings);
    assert_same(&logits(&worker), &own);
    // One bit makes a difference.
    let worker = with_head(|embedding| {
        let mut numbers = embedding.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
        numbers[319][31] += 0.5;
        Tensor::new(numbers, &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap()
    })
    .load();
    assert!(matches!(worker.warnings(), [Warning::HeadOfItsOwn { .. }]));
}

/// Head and embedding in different shards.
#[test]
fn shards_are_looked_through_for_a_head() {
    let worker = |tied: bool| {
        let copy = Copy::of(GROUPED);
        copy.edit_json("config.json", |config| config["tie_word_embeddings"] = tied.into());
        copy.load()
    };
    let (own, tied) = (worker(false), worker(true));
    assert!(own.warnings().is_empty());
    assert!(matches!(tied.warnings(), [Warning::HeadOfItsOwn { .. }]));
    assert_same(&logits(&tied), &logits(&own));
}

/// Training with rewards leaves a head behind that judges; old exporters wrote tables of rotations.
#[test]
fn tensors_that_are_no_part_of_the_decoder_are_left_out() {
    let own = logits(&Copy::of("llama3").load());
    let copy = Copy::of("llama3");
    copy.edit_tensors(|tensors| {
        let some = tensors["model.norm.weight"].clone();
        for name in ["inv_freq", "cos_cached", "sin_cached"] {
            tensors.insert(format!("model.layers.0.self_attn.rotary_emb.{name}"), some.clone());
        }
    });
    assert!(copy.load().warnings().is_empty());
    copy.edit_tensors(|tensors| {
        let some = tensors["model.norm.weight"].clone();
        tensors.insert("v_head.summary.weight".into(), some.clone());
        tensors.insert("v_head.summary.bias".into(), some);
    });
    let worker = copy.load();
    assert_same(&logits(&worker), &own);
    let said = worker.warnings().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("2 tensor(s)") && said[0].contains("v_head.summary.bias"), "{said:?}");
    // A bias that the configuration does not know changes the computation.
    copy.edit_tensors(|tensors| {
        let bias = Tensor::zeros(96, DType::BF16, &Device::Cpu).unwrap();
        tensors.insert("model.layers.0.self_attn.q_proj.bias".into(), bias);
    });
    assert_error!(copy.error(), Error::UnexpectedTensors { .. }, "q_proj.bias");
}

/// Models of embeddings are saved without the head, and so without its prefix.
#[test]
fn a_decoder_that_was_saved_alone_is_read() {
    let own = logits(&Copy::of("llama3").load());
    let copy = Copy::of("llama3");
    copy.edit_tensors(|tensors| {
        let all = std::mem::take(tensors);
        tensors.extend(all.into_iter().map(|(name, t)| (name.trim_start_matches("model.").to_owned(), t)));
    });
    assert_same(&logits(&copy.load()), &own);
    copy.edit_json("config.json", |config| config["tie_word_embeddings"] = false.into());
    assert_error!(copy.error(), Error::MissingTensor { .. }, HEAD);
}

/// Programs that save a model inside of something put its name before those of the tensors.
#[test]
fn a_model_that_was_saved_inside_another_is_read() {
    let own = logits(&Copy::of("llama3").load());
    for wrapper in ["_orig_mod.", "module.", "pretrained_model."] {
        let copy = Copy::of("llama3");
        copy.edit_tensors(|tensors| {
            let all = std::mem::take(tensors);
            tensors.extend(all.into_iter().map(|(name, tensor)| (format!("{wrapper}{name}"), tensor)));
        });
        assert_same(&logits(&copy.load()), &own);
    }
}

/// Packed weights without a word in config.json, as early GPTQ conversions have them.
#[test]
fn packed_weights_are_told_by_their_tensors() {
    for (name, how) in [
        ("model.layers.0.mlp.up_proj.qweight", "GPTQ or AWQ"),
        ("model.layers.0.mlp.up_proj.weight.absmax", "bitsandbytes"),
        ("model.layers.0.mlp.up_proj.scales", "MLX"),
        ("model.layers.0.mlp.up_proj.weight_scale_inv", "FP8"),
    ] {
        let copy = Copy::of("llama3");
        copy.edit_tensors(|tensors| {
            let some = tensors.remove("model.layers.0.mlp.up_proj.weight").unwrap();
            tensors.insert(name.into(), some);
        });
        assert_error!(copy.error(), Error::PackedTensors { .. }, name, how, "model.safetensors", "GGUF");
    }
}
