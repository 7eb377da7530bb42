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
    assert_eq!(page.matches("class=\"k\"").count(), briefing.kept_len());
}
