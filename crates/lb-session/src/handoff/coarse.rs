//! Which passages of a text are looked at token by token.

use super::lines::{Lines, Part};
use super::lingua::PassageOrder;
use super::selective::mean;
use crate::Result;
use crate::context::Reader;
use crate::handoff::likelihood::read;

/// Stands behind the question whose likelihood is measured, so that the question is about the passage in front (LongLLMLingua, section 4.1).
const RESTRICTION: &str = " We can get the answer to this question in the given documents.";

/// Passages read behind the template's head at the same time.
const TOGETHER: usize = 8;

/// The numbers of all passages, those with the greatest perplexity first.
pub(super) fn by_information(passages: &[Part], information: &[f64]) -> Vec<usize> {
    ranked(&passages.iter().map(|passage| mean(&information[passage.range.clone()])).collect::<Vec<_>>())
}

/// The numbers of all passages, those behind which `question` is likeliest first; `cost` grows by what is read.
pub(super) fn by_question(
    reader: Reader<'_>,
    lines: &Lines,
    passages: &[Part],
    question: &str,
    cost: &mut usize,
) -> Result<Vec<usize>> {
    let (context, text) = (reader.context, &reader.context.text.tokens);
    let question = context.worker().tokenizer().encode_text(&format!("{question}{RESTRICTION}"))?;
    let mut head = context.model().new_cache();
    reader.prefill(context.head(), &mut head)?;
    *cost += head.logical_len();
    let mut values = Vec::with_capacity(passages.len());
    for passages in passages.chunks(TOGETHER) {
        let line = |passage: &Part| {
            let of = &lines.all[passage.line];
            [&text[of.label.clone()], &text[passage.range.clone()], &text[of.end.clone()]].concat()
        };
        let tokens: Vec<Vec<u32>> = passages.iter().map(line).collect();
        let mut caches: Vec<_> = tokens.iter().map(|_| head.fork()).collect();
        let behind = reader.prefill_batch(&tokens, &mut caches)?;
        for ((tokens, cache), behind) in tokens.iter().zip(&mut caches).zip(&behind) {
            values.push(-mean(&read(reader, &question, Some(behind), cache)?.nats));
            *cost += tokens.len() + question.len();
        }
    }
    Ok(ranked(&values))
}

/// Numbers by value, the greatest first, equal ones in their order.
fn ranked(values: &[f64]) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..values.len()).collect();
    numbers.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    numbers
}

/// The first of `ranked` until they are `coarse` times `room` tokens, the one that passes it counted in, as long as the labels and ends
/// of their lines take no more than half of `room`; the first has all of it. Best first.
pub(super) fn chosen(
    lines: &Lines,
    passages: &[Part],
    ranked: &[usize],
    (coarse, room, order): (f64, usize, PassageOrder),
) -> Vec<usize> {
    let (mut framed, mut frames, mut tokens) = (vec![false; lines.all.len()], 0, 0);
    let mut chosen = Vec::new();
    for index in ranked {
        if tokens as f64 >= coarse * room as f64 {
            break;
        }
        let Part { line, range } = &passages[*index];
        let known = order == PassageOrder::Text && framed[*line];
        let frame = if known { 0 } else { lines.all[*line].frame() };
        let most = if chosen.is_empty() { room.saturating_sub(1) } else { room / 2 };
        if frames + frame > most {
            continue;
        }
        framed[*line] = true;
        frames += frame;
        tokens += range.len() + frame;
        chosen.push(*index);
    }
    chosen
}
