//! Heat maps on a terminal and as a page.

use latent_briefing::am::Selection;
use latent_briefing::explain;
use latent_briefing::prelude::*;
use latent_briefing::session::Position;

use super::notes;
use crate::support::embedded;

#[test]
fn the_pieces_are_the_text() {
    let session = notes();
    let briefing = session
        .brief(
            "Who keeps the Velmar ledger?",
            Compaction::keep_ratio(0.3).with_selection(Selection::shared()),
        )
        .unwrap();
    let positions = briefing.explain(embedded());
    assert_eq!(positions.len(), session.seq_len());
    let text: String = positions.iter().map(|p| p.piece.as_str()).collect();
    assert!(text.contains("finding: The Velmar ledger is kept by Anara.\ntool: Grep"), "{text}");
    let kept = positions.iter().filter(|p| p.kept).count();
    assert_eq!(kept, briefing.kept_len());
}

fn position(piece: &str, score: f32, kept: bool) -> Position {
    Position { piece: piece.to_owned(), score, kept, kept_by: f32::from(u8::from(kept)) }
}

#[test]
fn an_excerpt_marks_what_was_dropped() {
    let positions = [
        position("a", 0.1, true),
        position("b", 0.0, false),
        position("c", 0.2, true),
        position("d", 0.0, false),
    ];
    let plain = anstream::adapter::strip_str(&explain::excerpt(&positions)).to_string();
    assert_eq!(plain, "a … c …");
    let whole = anstream::adapter::strip_str(&explain::paint(&positions)).to_string();
    assert_eq!(whole, "abcd");
}

#[test]
fn control_characters_of_a_document_do_not_reach_the_terminal() {
    let positions = [position("\u{1b}]0;owned\u{7}", 0.1, true)];
    let plain = anstream::adapter::strip_str(&explain::excerpt(&positions)).to_string();
    assert_eq!(plain, "\\u{1b}]0;owned\\u{7}");
}

#[test]
fn the_page_escapes_hostile_text_and_loads_nothing() {
    let mut session = embedded().session().unwrap();
    session.extend(Segment::tool("<script>alert(1)</script> & \"quotes\"")).unwrap();
    let briefing = session.brief("What is <b>this</b>?", Compaction::keep_ratio(1.0)).unwrap();
    let page = explain::heat_map(&briefing, embedded(), "<img src=x>").unwrap();
    for bad in ["<script>", "<b>this", "<img", "http://", "https://", "src="] {
        assert!(!page.contains(bad) || bad == "src=" && page.contains("img src=x&gt;"), "{bad}");
    }
    assert!(page.contains("What is &lt;b&gt;this"));
    assert_eq!(page.matches("class=\"k s\"").count(), briefing.kept_len());
}

/// What each renewal brought in is listed with its text and framed where it stands.
#[test]
fn the_page_of_a_renewed_briefing_says_what_came_in() {
    let mut session = notes();
    let briefing = BriefConfig::from(Compaction::keep_ratio(0.1)).with_lookahead(Lookahead::NONE);
    let asked = session.ask("Who keeps the Velmar ledger?").via(Renewal::every(1, briefing)).at_most(4);
    let outcome = asked.run().unwrap();
    let first = outcome.briefing.as_ref().unwrap();
    assert!(!outcome.renewals.is_empty());
    for (number, renewed) in outcome.renewals.iter().enumerate() {
        assert_eq!(renewed.written, number + 1);
        assert_eq!(renewed.kept_by.len(), first.seq_len());
        let kept: f32 = renewed.kept_by.iter().sum();
        assert!((kept / first.seq_len() as f32 - first.keep_ratio() as f32).abs() < 0.01, "{kept}");
    }
    assert!(outcome.renewals.iter().any(|renewed| renewed.kept_by != first.kept_by()));
    let page = explain::renewed_heat_map(first, &outcome.renewals, embedded(), &outcome.answer.text).unwrap();
    let often = match outcome.renewals.len() {
        1 => "Renewed once".to_owned(),
        often => format!("Renewed {often} times"),
    };
    assert!(page.contains(&often), "{page}");
    let came = |kept_by: &[f32], before: &[f32]| {
        let many = first.many();
        kept_by.iter().zip(before).filter(|(now, before)| **now >= many && **before < many).count()
    };
    let first_came = came(&outcome.renewals[0].kept_by, first.kept_by());
    assert!(page.contains(&format!("after 1 token: {first_came} positions came in")), "{page}");
    let plain = session.ask("Who keeps the Velmar ledger?").run().unwrap();
    assert!(plain.renewals.is_empty());
}
