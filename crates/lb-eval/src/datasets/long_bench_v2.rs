//! LongBench v2: one multiple-choice question about one text.
//!
//! Fields as in `data.json` of `THUDM/LongBench-v2`: `_id, domain, sub_domain, difficulty, length, question,
//! choice_A..choice_D, answer, context`. Further fields are allowed; `free_answer` is taken over.
//! Source: Bai et al., "LongBench v2", arXiv 2412.15204.

use std::str::FromStr;
use std::sync::Arc;

use super::item::{Dataset, Item, ItemKind, LengthClass, Meta};
use super::reader::Record;
use crate::episodes::Difficulty;
use crate::fault::Fault;

/// The repository on the hub.
pub const REPOSITORY: &str = "THUDM/LongBench-v2";
/// Its one file, 465 MB.
pub const FILE: &str = "data.json";

const CHOICES: [&str; 4] = ["choice_A", "choice_B", "choice_C", "choice_D"];

pub(super) fn item(record: &Record<'_>) -> Result<Item, Fault> {
    let fields = &record.fields;
    let id = fields.filled("_id")?.to_owned();
    for field in ["choice_E", "choice_F"] {
        if fields.get(field).is_some() {
            return Err(Fault::ExtraChoice { field: field.to_owned(), most: CHOICES.len() });
        }
    }
    let choices = CHOICES.iter().map(|field| fields.filled(field).map(str::to_owned));
    let choices = choices.collect::<Result<Vec<_>, _>>()?;
    let letter = |text: &str| ["A", "B", "C", "D"].iter().position(|letter| *letter == text);
    let answer = fields.one_of("answer", letter, "A, B, C or D")?;
    let length = fields.one_of("length", |t| LengthClass::from_str(t).ok(), "short, medium or long")?;
    Ok(Item {
        id,
        dataset: Dataset::LongBenchV2,
        question: fields.filled("question")?.to_owned(),
        kind: ItemKind::Choices { choices, answer },
        difficulty: Some(fields.one_of("difficulty", difficulty, "easy or hard")?),
        length_class: Some(length),
        meta: Meta {
            domain: Some(fields.text("domain")?.to_owned()),
            sub_domain: Some(fields.text("sub_domain")?.to_owned()),
            free_answer: fields.optional("free_answer")?.map(str::to_owned),
            ..Meta::default()
        },
        line: record.line,
        context: Arc::from(fields.filled("context")?),
    })
}

fn difficulty(text: &str) -> Option<Difficulty> {
    match text {
        "easy" => Some(Difficulty::Easy),
        "hard" => Some(Difficulty::Hard),
        _ => None,
    }
}
