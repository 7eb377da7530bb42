//! The protocol of LongBench v2: prompts, truncation, extraction.

use latent_briefing::eval::datasets::{Dataset, Item, ItemKind, Meta};
use latent_briefing::eval::prompts::{
    Codec, Variant, answer_from, extract, extract_lenient, prompt, truncate,
};
use latent_briefing::eval::{Error, Result};
use proptest::prelude::*;

use crate::support::{assert_error, embedded};

fn item(kind: ItemKind) -> Item {
    Item {
        id: "x".to_owned(),
        dataset: Dataset::LongBenchV2,
        context: "\n The log holds $Q$ and $C_A$. \n".into(),
        question: " Who keeps it? ".to_owned(),
        kind,
        difficulty: None,
        length_class: None,
        meta: Meta::default(),
        line: 1,
    }
}

fn choices(n: usize) -> Item {
    let choices = ["Ana", " Bo ", "Cla", "Dara", "Eli"][..n].iter().map(|c| (*c).to_owned()).collect();
    item(ItemKind::Choices { choices, answer: 1 })
}

const TAIL: &str = "Format your response as follows: \"The correct answer is (insert answer here)\".";

#[test]
fn prompts_have_the_published_wording() {
    let asked = "What is the correct answer to this question: Who keeps it?\n\
                 Choices:\n(A) Ana\n(B) Bo\n(C) Cla\n(D) Dara";
    let text = "<text>\nThe log holds $Q$ and $C_A$.\n</text>";
    assert_eq!(
        prompt(&choices(4), Variant::ZeroShot),
        format!(
            "Please read the following text and answer the question below.\n\n{text}\n\n{asked}\n\n{TAIL}"
        )
    );
    let many = "Please read the following text and answer the questions below.";
    assert_eq!(
        prompt(&choices(4), Variant::ChainOfThought),
        format!("{many}\n\n{text}\n\n{asked}\n\nLet’s think step by step:")
    );
    assert_eq!(
        answer_from(&choices(4), " First, Bo. \n"),
        format!(
            "{many}\n\nThe text is too long and omitted here.\n\n{asked}\n\nLet’s think step by step: First, Bo.\n\n\
             Based on the above, what is the single, most likely answer choice? {TAIL}"
        )
    );
    assert_eq!(
        prompt(&choices(4), Variant::NoContext),
        format!("{asked}\n\nWhat is the single, most likely answer choice? {TAIL}")
    );
}

#[test]
fn other_items_get_their_own_letters_or_none() {
    assert!(prompt(&choices(5), Variant::ZeroShot).contains("\n(D) Dara\n(E) Eli\n\n"));
    let free = item(ItemKind::Free { answers: vec!["Bo".to_owned()] });
    for variant in [Variant::ZeroShot, Variant::ChainOfThought, Variant::NoContext] {
        let text = prompt(&free, variant);
        assert!(text.contains("Question: Who keeps it?") && !text.contains("Choices"), "{text}");
        assert_eq!(text.contains("The log holds"), variant != Variant::NoContext);
    }
    assert!(answer_from(&free, "r").contains("what is the answer?"));
}

/// One token a character.
struct Characters;

impl Codec for Characters {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(text.chars().map(u32::from).collect())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String> {
        Ok(tokens.iter().filter_map(|t| char::from_u32(*t)).collect())
    }
}

#[test]
fn the_middle_is_cut_as_python_cuts_it() {
    // Python: ids[:n//2] + ids[-n//2:], where -n//2 rounds down, so an odd limit keeps one more at the end.
    for (limit, kept) in [
        (10, "0123456789"),
        (9, "012356789"),
        (8, "01236789"),
        (5, "01789"),
        (2, "09"),
        (1, "9"),
        (11, "0123456789"),
    ] {
        let cut = truncate("0123456789", limit, &Characters).unwrap();
        assert_eq!(cut.text, kept, "limit {limit}");
        assert_eq!((cut.tokens, cut.removed), (10, 10 - kept.len()));
    }
    assert_eq!(truncate("", 1, &Characters).unwrap().text, "");
    assert_error!(truncate("x", 0, &Characters).unwrap_err(), Error::Config { field: "limit", .. }, "0");
}

#[test]
fn a_real_tokenizer_keeps_what_fits_and_halves_the_rest() {
    let tokenizer = embedded().tokenizer();
    let text = "The Velmar ledger is kept by Anara. <|im_end|> Read part 3: nothing new.".repeat(20);
    let whole = tokenizer.encode_text(&text).unwrap();
    let fits = truncate(&text, whole.len(), tokenizer).unwrap();
    assert_eq!((fits.text.as_str(), fits.removed), (text.as_str(), 0));
    for limit in [31, 32] {
        let cut = truncate(&text, limit, tokenizer).unwrap();
        assert_eq!((cut.tokens, cut.removed), (whole.len(), whole.len() - limit));
        let halves = [&whole[..limit / 2], &whole[whole.len() - (limit - limit / 2)..]].concat();
        assert_eq!(cut.text, tokenizer.decode(&halves).unwrap());
        assert!(text.starts_with(&cut.text[..20]) && text.ends_with(&cut.text[cut.text.len() - 20..]));
    }
}

#[test]
fn the_published_rule_finds_its_form_and_nothing_else() {
    for (reply, letter) in [
        ("The correct answer is (B)", Some('B')),
        ("**The correct answer is (C).**", Some('C')),
        ("The correct answer is (*D*)", Some('D')),
        ("The correct answer is A because", Some('A')),
        ("The correct answer is E. The correct answer is (B)", Some('B')),
        ("The correct answer is A. No: The correct answer is (C)", Some('C')),
        ("The correct answer is (E)", None),
        ("The correct answer is (AB)", None),
        ("The correct answer is: B", None),
        ("the correct answer is (B)", None),
        ("B", None),
        ("", None),
        ("The correct answer is ", None),
        ("The correct answer is (", None),
        ("The correct answer is (ß)", None),
    ] {
        assert_eq!(extract(reply, 4).map(|c| char::from(b'A' + c as u8)), letter, "{reply:?}");
    }
    assert_eq!(extract("The correct answer is (E)", 5), Some(4));
}

#[test]
fn the_lenient_rule_adds_letters_that_stand_alone() {
    for (reply, choice) in [
        ("B", Some(1)),
        (" (C) ", Some(2)),
        ("**D**", Some(3)),
        ("A.", Some(0)),
        ("B: Bo", Some(1)),
        ("C) Cla", Some(2)),
        ("The correct answer is (A)", Some(0)),
        ("A dog barks", None),
        ("Because", None),
        ("(A, B)", None),
        ("E", None),
        ("b", None),
        ("I think B", None),
    ] {
        assert_eq!(extract_lenient(reply, 4), choice, "{reply:?}");
    }
}

proptest! {
    #[test]
    fn no_reply_breaks_extraction(reply in any::<String>(), n in 0_usize..40) {
        let strict = extract(&reply, n);
        prop_assert!(strict.is_none_or(|c| c < n));
        let lenient = extract_lenient(&reply, n);
        prop_assert!(lenient.is_none_or(|c| c < n));
        if strict.is_some() {
            prop_assert_eq!(strict, lenient);
        }
    }
}
