//! LongHealth: several multiple-choice questions about the records of one patient.
//!
//! One JSON object (`kbressem/LongHealth`, `benchmark_v5.json`), a key per patient: `texts {text_0, ...}, name, birthday,
//! diagnosis, questions[]` with `No, question, answer_a..answer_e, correct`. `correct` repeats the text of the right
//! choice; a letter is understood too. Source: Adams et al., "LongHealth", arXiv 2401.14490.

use std::sync::Arc;

use serde_json::Value;

use super::fields::Fields;
use super::item::{Dataset, Item, ItemKind, Meta};
use super::reader::{Entry, Record};
use crate::fault::{Fault, ItemFault};

const ANSWERS: [&str; 5] = ["answer_a", "answer_b", "answer_c", "answer_d", "answer_e"];

pub(super) fn items(record: &Record<'_>, found: &mut Vec<Entry>) {
    let patient = record.key.unwrap_or_default();
    let fault = |id: String, fault| Entry::Fault(ItemFault { id: Some(id), line: record.line, fault });
    let (context, questions) = match patient_record(&record.fields) {
        Ok(found) => found,
        Err(e) => return found.push(fault(patient.to_owned(), e)),
    };
    let diagnosis = record.fields.get("diagnosis").and_then(Value::as_str).map(str::to_owned);
    for (number, value) in questions.iter().enumerate() {
        let no = value.get("No").and_then(Value::as_i64).map_or(number.to_string(), |no| no.to_string());
        let id = format!("{patient}_q{no}");
        let item = Fields::at(value, format!("questions[{number}]")).and_then(|fields| {
            Ok(Item {
                id: id.clone(),
                dataset: Dataset::LongHealth,
                context: Arc::clone(&context),
                question: fields.filled("question")?.to_owned(),
                kind: choices(&fields)?,
                difficulty: None,
                length_class: None,
                meta: Meta { domain: diagnosis.clone(), ..Meta::default() },
                line: record.line,
            })
        });
        found.push(item.map_or_else(|e| fault(id, e), Entry::Item));
    }
}

/// The records in their order, a blank line between two, and the questions.
fn patient_record<'a>(fields: &Fields<'a>) -> Result<(Arc<str>, &'a [Value]), Fault> {
    let Value::Object(texts) = fields.need("texts")? else {
        let got = super::fields::type_name(fields.need("texts")?).to_owned();
        return Err(Fault::Type { field: "texts".to_owned(), expected: "an object".to_owned(), got });
    };
    let named = Fields::root(texts);
    let mut numbered: Vec<(usize, &str)> = Vec::with_capacity(texts.len());
    for (place, key) in texts.keys().enumerate() {
        let number = key.rsplit('_').next().and_then(|n| n.parse().ok()).unwrap_or(place);
        numbered.push((number, named.text(key)?));
    }
    numbered.sort_by_key(|(number, _)| *number);
    let context = numbered.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n\n");
    if context.trim().is_empty() {
        return Err(Fault::Empty { field: "texts".to_owned() });
    }
    Ok((Arc::from(context), fields.array("questions")?))
}

fn choices(fields: &Fields<'_>) -> Result<ItemKind, Fault> {
    let choices = ANSWERS.iter().map(|field| fields.filled(field).map(str::to_owned));
    let choices = choices.collect::<Result<Vec<_>, _>>()?;
    if fields.get("answer_f").is_some() {
        return Err(Fault::ExtraChoice { field: fields.name("answer_f"), most: ANSWERS.len() });
    }
    let correct = fields.filled("correct")?.trim();
    let by_text = choices.iter().position(|choice| choice.trim() == correct);
    let by_letter = || ["a", "b", "c", "d", "e"].iter().position(|l| correct.eq_ignore_ascii_case(l));
    let answer = by_text.or_else(by_letter);
    let answer = answer.ok_or_else(|| fields.value("correct", correct, "the text of one of the choices"))?;
    Ok(ItemKind::Choices { choices, answer })
}
