//! QuALITY: several multiple-choice questions about one article.
//!
//! JSON Lines of version 1.0.1 (`nyu-mll/quality`): `article_id, set_unique_id, title, topic, source, article,
//! questions[]` with `question, question_unique_id, options[4], gold_label (from 1), difficult (0 or 1)`. The test split
//! has no gold labels and is not readable as items. Source: Pang et al., "QuALITY", arXiv 2112.08608.

use std::sync::Arc;

use serde_json::Value;

use super::fields::Fields;
use super::html;
use super::item::{Dataset, Item, ItemKind, Meta};
use super::reader::{Entry, Record};
use crate::episodes::Difficulty;
use crate::fault::{Fault, ItemFault};

const OPTIONS: usize = 4;

pub(super) fn items(record: &Record<'_>, found: &mut Vec<Entry>) {
    let set = record.fields.get("set_unique_id").and_then(Value::as_str).map(str::to_owned);
    let fault = |id, fault| Entry::Fault(ItemFault { id, line: record.line, fault });
    let (article, questions) = match article(&record.fields) {
        Ok(found) => found,
        Err(e) => return found.push(fault(set, e)),
    };
    for (number, value) in questions.iter().enumerate() {
        let path = format!("questions[{number}]");
        let named = value.get("question_unique_id").and_then(Value::as_str).map(str::to_owned);
        let id = named.or_else(|| Some(format!("{}_{}", set.as_deref()?, number + 1)));
        let item = Fields::at(value, path).and_then(|fields| question(&fields, id.clone(), &article));
        found.push(match item {
            Ok(item) => Entry::Item(Item { line: record.line, ..item }),
            Err(e) => fault(id, e),
        });
    }
}

struct Article {
    text: Arc<str>,
    meta: Meta,
}

fn article<'a>(fields: &Fields<'a>) -> Result<(Article, &'a [Value]), Fault> {
    let text = fields.filled("article")?;
    let mut meta = Meta { domain: fields.optional("topic")?.map(str::to_owned), ..Meta::default() };
    for field in ["article_id", "title", "source"] {
        if let Some(value) = fields.optional(field)? {
            meta.extra.insert(field.to_owned(), value.to_owned());
        }
    }
    let text = if html::is_html(text) {
        meta.extra.insert("html".to_owned(), "stripped".to_owned());
        Arc::from(html::strip(text))
    } else {
        Arc::from(text)
    };
    Ok((Article { text, meta }, fields.array("questions")?))
}

fn question(fields: &Fields<'_>, id: Option<String>, article: &Article) -> Result<Item, Fault> {
    let id = id.ok_or_else(|| Fault::Missing { field: fields.name("question_unique_id") })?;
    let choices = fields.texts("options")?;
    if choices.len() > OPTIONS {
        return Err(Fault::ExtraChoice { field: format!("{}[4]", fields.name("options")), most: OPTIONS });
    }
    if choices.len() < OPTIONS {
        return Err(Fault::Missing { field: format!("{}[{}]", fields.name("options"), choices.len()) });
    }
    let label = fields.integer("gold_label")?;
    let answer = usize::try_from(label).ok().filter(|label| (1..=OPTIONS).contains(label));
    let answer = answer.ok_or_else(|| fields.value("gold_label", &label.to_string(), "1 to 4"))? - 1;
    let difficulty = match fields.get("difficult") {
        None => None,
        Some(_) => match fields.integer("difficult")? {
            0 => Some(Difficulty::Easy),
            1 => Some(Difficulty::Hard),
            other => return Err(fields.value("difficult", &other.to_string(), "0 or 1")),
        },
    };
    Ok(Item {
        id,
        dataset: Dataset::Quality,
        context: Arc::clone(&article.text),
        question: fields.filled("question")?.to_owned(),
        kind: ItemKind::Choices { choices, answer },
        difficulty,
        length_class: None,
        meta: article.meta.clone(),
        line: 0,
    })
}
