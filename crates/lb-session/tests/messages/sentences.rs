//! Extracted sentences.

use lb_am::LayerKv;
use lb_model::PrefillOptions;
use lb_session::{
    CompactOldest, Error, Handoff, RoomPolicy, Segment, SelectionSize, SentenceScore, SessionConfig,
    WorkerSession,
};
use lb_testkit::{embedded, oracle};

use super::{TASK, head_len, lines, message, session_of, text};

/// Sentences of the trajectory with the tokens that they are: text, label, from, to.
fn sentences() -> Vec<(String, &'static str, usize, usize)> {
    let mut at = head_len();
    let mut all = Vec::new();
    let count = |text: &str| embedded().tokenizer().encode_text(text).unwrap().len();
    for segment in lines() {
        let tag = segment.source.tag();
        let mut before = format!("{tag}:");
        let starts: Vec<&str> = segment.text.split_inclusive(". ").collect();
        for sentence in starts {
            let from = count(&before);
            before.extend([" ", sentence.trim_end()]);
            all.push((sentence.trim_end().to_owned(), tag, at + from, at + count(&before)));
        }
        at += count(&format!("{tag}: {}\n", segment.text));
    }
    all
}

#[test]
fn by_words_it_is_what_matches_the_question() {
    let mut session = session_of(lines());
    let kept = text(&message(&mut session, "sentences:0.6", "Who works in Redmoor, Anara?")[head_len()..]);
    // Both name Anara, one Redmoor as well; the sentence behind it matches nothing.
    assert!(kept.contains("finding: The Velmar ledger is kept by Anara.\n"), "{kept}");
    assert!(kept.contains("finding: Anara works in Redmoor."), "{kept}");
    assert!(!kept.contains("since May"), "{kept}");
    // Where nothing matches, the latest.
    let kept = text(&message(&mut session, "sentences:0.3", "??")[head_len()..]);
    assert!(kept.ends_with("She has been there since May.\n"), "{kept}");
}

#[test]
fn by_attention_it_is_where_the_tasks_queries_look() {
    let mut session = session_of(lines());
    let task = session.task_tokens(TASK).unwrap();
    let mut fork = session.cache().fork();
    let layers: Vec<LayerKv> = session.cache().layers().unwrap();
    let read = PrefillOptions::default();
    let captured = embedded().model().prefill_capturing(&task, &mut fork, &read, &mut |_, _| {}).unwrap();
    let mut mass = vec![0.0; session.seq_len()];
    for (layer, queries) in layers.iter().zip(&captured.queries) {
        for head in oracle::heads(layer, queries) {
            let seen = head.attend().probabilities;
            for row in &seen {
                row.iter().zip(&mut mass).for_each(|(p, mass)| *mass += p / seen.len() as f64);
            }
        }
    }
    let mut ranked: Vec<(f64, String)> = sentences()
        .into_iter()
        .map(|(text, _, from, to)| (mass[from..to].iter().sum::<f64>(), text))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for size in ["0.3", "0.5", "0.8"] {
        let kept = text(&message(&mut session, &format!("sentences:{size},by=attention"), TASK));
        let is_kept: Vec<bool> = ranked.iter().map(|(_, text)| kept.contains(text.as_str())).collect();
        let count = is_kept.iter().filter(|kept| **kept).count();
        assert!(count > 0 && count < ranked.len(), "{kept}");
        // The best come first; behind the first that did not fit, shorter ones may.
        let first_out = is_kept.iter().position(|kept| !kept).unwrap();
        assert!(first_out >= 1 && first_out + 2 >= count, "{is_kept:?} of {ranked:?}");
    }
}

#[test]
fn attention_needs_the_whole_text_in_the_cache() {
    let limit = embedded().config().position_limit();
    let room = RoomPolicy::CompactOldest(CompactOldest { reserve: limit - 400, ..CompactOldest::default() });
    let config = SessionConfig { room, ..SessionConfig::default() };
    let mut session = WorkerSession::with(embedded(), config).unwrap();
    let line = "The code of the Oslund relay is 5521, and the Velmar ledger is kept by Anara. ".repeat(6);
    let each = embedded().tokenizer().encode_text(&line).unwrap().len();
    for _ in 0..=limit / each + 1 {
        session.extend(Segment::finding(&line)).unwrap();
    }
    assert!(!session.room_reports().is_empty());
    let ask = |by: SentenceScore, session: &mut WorkerSession| {
        let size = SelectionSize::KeptLen(200);
        session.ask(TASK).via(Handoff::Sentences { size, by }).prepare().map(|prepared| prepared.kept_len)
    };
    let error = ask(SentenceScore::Attention, &mut session).unwrap_err();
    assert!(matches!(error.kind_of(), "by"), "{error}");
    assert!(ask(SentenceScore::Bm25, &mut session).unwrap() > head_len());
    // The text is longer than the model goes, and is judged in windows.
    let selective: Handoff = "selective-context:200t".parse().unwrap();
    let prepared = session.ask(TASK).via(selective).prepare().unwrap();
    let read = prepared.tokens.prefilled - prepared.prompt.len();
    assert!(prepared.seq_len > limit && read > prepared.seq_len && read < 2 * prepared.seq_len);
    assert!(prepared.kept_len <= 200 && prepared.kept_len > 150, "{}", prepared.kept_len);
}

/// The field that an error names.
trait Field {
    fn kind_of(&self) -> &str;
}

impl Field for Error {
    fn kind_of(&self) -> &str {
        match self {
            Error::Config { field, .. } => field,
            Error::Call { source, .. } => source.kind_of(),
            _ => "",
        }
    }
}
