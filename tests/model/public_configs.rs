//! config.json of public models, as facts: what each says, and what must happen.
//!
//! `origin` is `seen` where the file, or a program's print of it, was found in public code, and `known` where what is written
//! here is what the model's publisher and the programs that save such models are known to write.

use std::path::Path;

use lb_model::{Error, ModelConfig, Warning};
use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("public_configs.json");

struct Row {
    model: String,
    origin: String,
    config: Map<String, Value>,
    /// Fields with a warning; none if left out.
    warns: Vec<String>,
    /// The field that is refused.
    refused: Option<String>,
    /// What else must come out.
    reads: Map<String, Value>,
}

fn table() -> Vec<Row> {
    let rows: Vec<Map<String, Value>> = serde_json::from_str(TABLE).unwrap();
    let row = |mut row: Map<String, Value>| {
        let mut take = |field: &str| row.remove(field);
        let text = |value: Option<Value>| value.map(|value| value.as_str().unwrap().to_owned());
        let object = |value: Option<Value>| value.map(|value| value.as_object().unwrap().clone());
        let read = Row {
            model: text(take("model")).unwrap(),
            origin: text(take("origin")).unwrap(),
            config: object(take("config")).unwrap(),
            warns: serde_json::from_value(take("warns").unwrap_or_else(|| json!([]))).unwrap(),
            refused: text(take("refused")),
            reads: object(take("reads")).unwrap_or_default(),
        };
        assert!(row.is_empty(), "{}: {row:?}", read.model);
        read
    };
    rows.into_iter().map(row).collect()
}

fn parse(config: &Map<String, Value>) -> lb_model::Result<(ModelConfig, Vec<Warning>)> {
    let json = serde_json::to_vec(config).unwrap();
    ModelConfig::parse(&json, Path::new("M/config.json"))
}

fn fields(warnings: &[Warning]) -> Vec<String> {
    let field = |warning: &Warning| match warning {
        Warning::UnknownField { field, .. } | Warning::NoEffect { field, .. } => field.clone(),
        other => panic!("{other:?}"),
    };
    let mut fields: Vec<String> = warnings.iter().map(field).collect();
    fields.sort();
    fields
}

fn read(config: &ModelConfig, field: &str) -> f64 {
    match field {
        "positions" => config.position_limit() as f64,
        "rope_theta" => config.rope_theta,
        "head_dim" => config.head_dim as f64,
        "num_key_value_heads" => config.num_key_value_heads as f64,
        other => panic!("{other}"),
    }
}

#[test]
fn public_models_load_or_are_refused_by_name() {
    for Row { model, config, warns, refused, reads, .. } in table() {
        match (parse(&config), refused) {
            (Err(Error::UnsupportedConfig { field, value, reason }), Some(refused)) => {
                assert_eq!(field, refused, "{model}: {value}: {reason}");
                assert!(!reason.contains('\n') && reason.len() < 300, "{model}: {reason}");
            }
            (Ok((read_config, warnings)), None) => {
                assert_eq!(fields(&warnings), warns, "{model}");
                for (field, expected) in reads {
                    let (found, expected) = (read(&read_config, &field), expected.as_f64().unwrap());
                    assert!(
                        (found - expected).abs() < 0.5,
                        "{model}: {field} = {found}, expected {expected}"
                    );
                }
            }
            (outcome, refused) => panic!("{model}: {outcome:?}, expected refused {refused:?}"),
        }
    }
}

#[test]
fn the_table_covers_what_it_promises() {
    let rows = table();
    let of = |word: &str| rows.iter().filter(|row| row.model.contains(word)).count();
    assert!(rows.len() >= 100);
    assert!(rows.iter().filter(|row| row.origin == "seen").count() >= 40);
    assert!(rows.iter().all(|row| ["seen", "known"].contains(&row.origin.as_str())));
    for word in [
        "Qwen2-",
        "Qwen2.5",
        "Qwen3-",
        "A3B",
        "Llama-2",
        "Llama-3.1",
        "Llama-3.2",
        "Llama-3.3",
        "SmolLM-",
        "SmolLM2",
        "Mistral",
        "R1-Distill",
        "unsloth",
        "axolotl",
        "mergekit",
        "TRL",
    ] {
        assert!(of(word) > 0, "{word}");
    }
}

/// Every row that loads also loads without a single one of its fields that say nothing or have a default, and null is as
/// good as nothing where transformers has no other meaning for it.
#[test]
fn no_row_depends_on_what_says_nothing() {
    const SIZES: [&str; 6] = [
        "model_type",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    ];
    for row in table().into_iter().filter(|row| row.refused.is_none()) {
        for field in row.config.keys().filter(|field| !SIZES.contains(&field.as_str())) {
            let mut less = row.config.clone();
            let value = less.shift_remove(field);
            // A missing window is the family's usual one, missing heads are its usual number, and a window may be
            // shorter than the usual positions.
            let usual = ["sliding_window", "num_key_value_heads", "max_position_embeddings"]
                .contains(&field.as_str());
            if !usual {
                assert!(parse(&less).is_ok(), "{} without {field} = {value:?}", row.model);
            }
            less.insert(field.clone(), Value::Null);
            assert!(usual || parse(&less).is_ok(), "{} with {field} = null", row.model);
        }
    }
}
