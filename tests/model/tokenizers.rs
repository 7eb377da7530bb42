//! Tokenizers of every supported kind against transformers, and tokenizer files that are not what they should be.

use std::fs;
use std::path::PathBuf;

use lb_model::{Error, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::checkpoints::{golden, golden_json, ids};

const KINDS: [&str; 6] = ["qwen", "llama3", "tekken", "llama2", "mistral", "metaspace"];
const SENTENCE_PIECE: [&str; 3] = ["llama2", "mistral", "metaspace"];

fn folder(kind: &str) -> PathBuf {
    golden("tokenizers").join(kind)
}

fn load(kind: &str) -> Tokenizer {
    Tokenizer::load(folder(kind)).unwrap()
}

fn cases(kind: &str, part: &str) -> Vec<Value> {
    let cases = golden_json("tokenizers")["kinds"][kind][part].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

/// What streaming `ids` gives, token by token.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    ids.iter().map(|&id| stream.push(id).to_string()).collect()
}

#[test]
fn texts_encode_and_decode_as_in_transformers() {
    for kind in KINDS {
        let tokenizer = load(kind);
        for case in cases(kind, "texts") {
            let text = case["text"].as_str().unwrap();
            let (prompt, plain) = (ids(&case["prompt"]), ids(&case["ids"]));
            let decoded = case["decoded"].as_str().unwrap();
            assert_eq!(tokenizer.encode_prompt(text).unwrap(), prompt, "{kind}: {text:?}");
            assert_eq!(tokenizer.decode(&plain).unwrap(), decoded, "{kind}: {text:?}");
            assert_eq!(tokenizer.pieces(&plain).concat(), decoded, "{kind}: {text:?}");
            assert_eq!(streamed(&tokenizer, &plain), decoded, "{kind}: {text:?}");
            if !SENTENCE_PIECE.contains(&kind) {
                assert_eq!(tokenizer.encode_text(text).unwrap(), plain, "{kind}: {text:?}");
                assert_eq!(tokenizer.encode_template(text).unwrap(), plain, "{kind}: {text:?}");
            }
        }
    }
}

/// A tokenizer that is written down and read again makes the same tokens, and the same text of them.
#[test]
fn a_tokenizer_that_is_written_down_is_the_same() {
    for kind in KINDS {
        let (tokenizer, folder) = (load(kind), TempDir::new().unwrap());
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_json().unwrap()).unwrap();
        let read = Tokenizer::load(folder.path()).unwrap();
        for case in cases(kind, "texts") {
            let text = case["text"].as_str().unwrap();
            let prompt = ids(&case["prompt"]);
            let (written, own) =
                (read.encode_template(text).unwrap(), tokenizer.encode_template(text).unwrap());
            assert_eq!(written, own, "{kind}: {text:?}");
            assert_eq!(
                read.encode_text(text).unwrap(),
                tokenizer.encode_text(text).unwrap(),
                "{kind}: {text:?}"
            );
            assert_eq!(read.decode(&prompt).unwrap(), tokenizer.decode(&prompt).unwrap(), "{kind}: {text:?}");
        }
    }
}

/// A document goes in without a space in front, and comes out as it was (after NFC, where the tokenizer has that).
#[test]
fn documents_survive_within_a_prompt() {
    for kind in KINDS {
        let tokenizer = load(kind);
        let before = tokenizer.encode_prompt("x").unwrap();
        let before_text = tokenizer.decode(&before).unwrap();
        for case in cases(kind, "texts").into_iter().chain(cases(kind, "look_alikes")) {
            let text = case["text"].as_str().unwrap();
            let document = tokenizer.encode_text(text).unwrap();
            let whole = tokenizer.decode(&[before.clone(), document].concat()).unwrap();
            // SentencePiece writes a space and ▁ alike, and so no tokenizer of that kind can tell them apart.
            let expected =
                if SENTENCE_PIECE.contains(&kind) { text.replace('▁', " ") } else { text.to_string() };
            let is_normalised = kind == "qwen" && case["decoded"].as_str().is_some_and(|d| d != text);
            let expected = if is_normalised { case["decoded"].as_str().unwrap() } else { &expected };
            assert_eq!(whole, format!("{before_text}{expected}"), "{kind}: {text:?}");
        }
    }
}

/// Control tokens spelled out: recognised in trusted text, plain text in documents.
#[test]
fn look_alikes_are_text_in_documents_alone() {
    for kind in KINDS {
        let tokenizer = load(kind);
        let control: Vec<u32> =
            tokenizer.added_tokens().iter().map(|token| tokenizer.token_id(token).unwrap()).collect();
        let mut recognised = 0;
        for case in cases(kind, "look_alikes") {
            let text = case["text"].as_str().unwrap();
            let trusted = ids(&case["ids"]);
            recognised += trusted.iter().filter(|id| control.contains(id)).count();
            let around = tokenizer.encode_prompt("").unwrap().len();
            let prompt = tokenizer.encode_prompt(text).unwrap();
            assert!(
                prompt.len() == trusted.len() + around && prompt.windows(trusted.len()).any(|w| w == trusted)
            );
            let document = tokenizer.encode_text(text).unwrap();
            assert!(document.iter().all(|id| !control.contains(id)), "{kind}: {text:?}: {document:?}");
        }
        assert!(recognised > 0, "{kind}");
    }
}

/// Where a document stands between control tokens: `encode_template` and `encode_text` piece by piece are what
/// transformers gives for the whole, but for the space that SentencePiece puts behind a control token, which belongs
/// to the text there and which a piece of text does not know of.
#[test]
fn composed_prompts_are_those_of_transformers() {
    for kind in KINDS {
        let tokenizer = load(kind);
        for case in cases(kind, "composed") {
            let text = case["text"].as_str().unwrap();
            let expected = ids(&case["ids"]);
            let got = tokenizer.encode_template(text).unwrap();
            if text.starts_with("Who") || text.starts_with('x') {
                // The text starts without a control token, so that transformers puts a space in front.
                let space = usize::from(SENTENCE_PIECE.contains(&kind));
                assert_eq!(
                    tokenizer.decode(&got).unwrap(),
                    tokenizer.decode(&expected).unwrap(),
                    "{kind}: {text:?}"
                );
                assert!(got.len() + space >= expected.len(), "{kind}: {text:?}");
            } else {
                assert_eq!(got, expected, "{kind}: {text:?}");
            }
            let (around, prompt) =
                (tokenizer.encode_prompt("").unwrap(), tokenizer.encode_prompt(text).unwrap());
            assert_eq!(prompt.len(), around.len() + expected.len());
            assert!(expected.is_empty() || prompt.windows(expected.len()).any(|w| w == expected));
        }
    }
    // Behind a control token, every section gets the space in two tokenizers, none but the first in the third.
    for (kind, has_space) in [("llama2", true), ("metaspace", true), ("mistral", false)] {
        let tokenizer = load(kind);
        let ids = tokenizer.encode_template("</s>keeps").unwrap();
        assert_eq!(tokenizer.token_str(ids[1]).unwrap().starts_with('▁'), has_space, "{kind}");
        assert!(!tokenizer.token_str(tokenizer.encode_text("keeps").unwrap()[0]).unwrap().starts_with('▁'));
        assert!(tokenizer.token_str(tokenizer.encode_prompt("keeps").unwrap()[1]).unwrap().starts_with('▁'));
    }
}

/// Bytes that are no text, ids beyond the vocabulary, control tokens in the middle. The one documented difference: in
/// a run of byte tokens that is no UTF-8 as a whole, transformers replaces its valid characters as well.
#[test]
fn any_tokens_decode_as_in_transformers() {
    let mut kept = 0;
    for kind in KINDS {
        let tokenizer = load(kind);
        for case in cases(kind, "sequences") {
            let sequence = ids(&case["ids"]);
            let expected = case["decoded"].as_str().unwrap();
            let got = tokenizer.decode(&sequence).unwrap();
            if SENTENCE_PIECE.contains(&kind) && got != expected {
                kept += 1;
                let valid: usize = got.chars().filter(|c| *c != '\u{FFFD}').map(char::len_utf8).sum();
                let lost: usize = expected.chars().filter(|c| *c != '\u{FFFD}').map(char::len_utf8).sum();
                let count = |text: &str| text.chars().filter(|c| *c == '\u{FFFD}').count();
                assert_eq!(count(&got) + valid, count(expected) + lost, "{kind}: {sequence:?}");
            } else {
                assert_eq!(got, expected, "{kind}: {sequence:?}");
            }
            assert_eq!(tokenizer.pieces(&sequence).concat(), got);
            let finished = [sequence.clone(), tokenizer.encode_text("x").unwrap()].concat();
            assert_eq!(streamed(&tokenizer, &finished), tokenizer.decode(&finished).unwrap(), "{kind}");
        }
    }
    assert!(kept > 0, "no case shows the difference");
}

/// Every sequence of two tokens, streamed and decoded.
#[test]
fn streams_are_what_decode_gives() {
    for kind in KINDS {
        let tokenizer = load(kind);
        let tail = tokenizer.encode_text("x").unwrap();
        let size = u32::try_from(tokenizer.vocab_size()).unwrap();
        for a in (0..size).step_by(3) {
            for b in (0..size).step_by(7) {
                let sequence = [&[a, b], tail.as_slice()].concat();
                let decoded = tokenizer.decode(&sequence).unwrap();
                assert_eq!(streamed(&tokenizer, &sequence), decoded, "{kind}: {sequence:?}");
                assert_eq!(tokenizer.pieces(&sequence).concat(), decoded, "{kind}: {sequence:?}");
            }
        }
    }
}

#[test]
fn special_tokens_and_prompt_tokens_come_from_the_files() {
    let special = |kind: &str, name: &str| load(kind).special_tokens().get(name).cloned();
    assert_eq!(special("llama3", "bos_token").as_deref(), Some("<|begin_of_text|>"));
    assert_eq!(special("mistral", "unk_token").as_deref(), Some("<unk>"));
    assert_eq!(special("qwen", "bos_token"), None);
    assert_eq!(special("qwen", "pad_token").as_deref(), Some("<|endoftext|>"));
    let around = |kind: &str| {
        let tokenizer = load(kind);
        let around = tokenizer.encode_prompt("").unwrap();
        around.into_iter().map(|id| tokenizer.token_str(id).unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(around("qwen"), "");
    assert_eq!(around("llama3"), "<|begin_of_text|>");
    // `add_eos_token` is set in its tokenizer_config.json; the post-processor wins, as in transformers.
    assert_eq!(around("mistral"), "<s>");
    assert_eq!(around("metaspace"), "<s>");
}

/// A copy of a tokenizer's folder with `tokenizer.json` changed.
fn changed(kind: &str, edit: impl FnOnce(&mut Value)) -> Result<Tokenizer, Error> {
    let mut file: Value =
        serde_json::from_slice(&fs::read(folder(kind).join("tokenizer.json")).unwrap()).unwrap();
    edit(&mut file);
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::load(dir.path())
}

/// A change to `tokenizer.json` and the field that the error names.
type Change = (fn(&mut Value), &'static str);

fn assert_refused(kind: &str, changes: &[Change]) {
    for (edit, expected) in changes {
        match changed(kind, edit) {
            Err(Error::UnsupportedConfig { field, .. }) => assert_eq!(field, *expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn models_that_are_not_supported_name_the_field() {
    let changes: &[Change] = &[
        (|t| *t = json!([]), "decoder.type"),
        (|t| t["decoder"] = Value::Null, "decoder.type"),
        (|t| t["decoder"]["type"] = "WordPiece".into(), "decoder.type"),
        (|t| t["model"] = Value::Null, "model"),
        (|t| t["model"]["type"] = "Unigram".into(), "model.type"),
        (|t| t["model"]["dropout"] = 0.1.into(), "model.dropout"),
        (|t| t["model"]["continuing_subword_prefix"] = "##".into(), "model.continuing_subword_prefix"),
        (|t| t["model"]["end_of_word_suffix"] = "</w>".into(), "model.end_of_word_suffix"),
        (|t| t["model"]["ignore_merges"] = 1.into(), "model.ignore_merges"),
        (|t| t["model"]["vocab"] = json!([]), "model.vocab"),
        (|t| t["model"]["vocab"]["new"] = (-1).into(), "model.vocab.new"),
        (|t| t["model"]["vocab"]["new"] = 0.into(), "model.vocab.new"),
        (|t| t["model"]["vocab"]["new"] = u32::MAX.into(), "model.vocab.new"),
        (|t| t["model"]["merges"] = Value::Null, "model.merges"),
        (|t| t["model"]["merges"][3] = json!(["a", "b", "c"]), "model.merges[3]"),
        (|t| t["model"]["merges"][3] = "a b c".into(), "model.merges[3]"),
        (|t| t["model"]["merges"][3] = json!(["Ġledger", "Ġledger"]), "model.merges[3]"),
    ];
    assert_refused("qwen", changes);
}

#[test]
fn components_that_are_not_supported_name_the_field() {
    let changes: &[Change] = &[
        (|t| t["added_tokens"] = 1.into(), "added_tokens"),
        (|t| t["added_tokens"][1]["content"] = "".into(), "added_tokens[1].content"),
        (
            |t| t["added_tokens"][1]["content"] = t["added_tokens"][0]["content"].clone(),
            "added_tokens[1].content",
        ),
        (|t| t["added_tokens"][1]["id"] = u64::MAX.into(), "added_tokens[1].id"),
        (|t| t["added_tokens"][1]["id"] = 3.into(), "added_tokens[1].id"),
        (|t| t["added_tokens"][1]["id"] = 420.into(), "added_tokens[1].id"),
        (|t| t["added_tokens"][1]["special"] = "yes".into(), "added_tokens[1].special"),
        (|t| t["normalizer"] = json!({"type": "Lowercase"}), "normalizer"),
        (|t| t["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}), "pre_tokenizer"),
        (|t| t["pre_tokenizer"] = Value::Null, "pre_tokenizer"),
        (
            |t| t["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into(),
            "pre_tokenizer.add_prefix_space",
        ),
        (
            |t| t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "((a{999}){999}){999}".into(),
            "pre_tokenizer.pattern",
        ),
        (|t| t["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed".into(), "pre_tokenizer.behavior"),
        (|t| t["post_processor"] = json!({"type": "BertProcessing"}), "post_processor"),
    ];
    assert_refused("qwen", changes);
    let regex = changed("qwen", |t| t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(".into());
    assert!(matches!(regex, Err(Error::Tokenizer { .. })), "{regex:?}");
}

#[test]
fn byte_fallback_that_is_not_supported_names_the_field() {
    let changes: &[Change] = &[
        (|t| t["decoder"]["decoders"] = json!([{"type": "Fuse"}]), "decoder.type"),
        (|t| t["decoder"]["decoders"][3]["start"] = 2.into(), "decoder"),
        (|t| t["model"]["ignore_merges"] = true.into(), "model.ignore_merges"),
        (|t| t["normalizer"]["normalizers"][0]["prepend"] = "__".into(), "normalizer"),
        (|t| t["pre_tokenizer"] = json!({"type": "Whitespace"}), "pre_tokenizer"),
        (|t| t["post_processor"]["single"] = json!([]), "post_processor.single"),
        (|t| t["post_processor"]["special_tokens"] = json!({}), "post_processor.single"),
        (|t| t["post_processor"]["special_tokens"]["<s>"]["ids"] = json!([70000]), "post_processor.single"),
    ];
    assert_refused("llama2", changes);
    let scheme: Change =
        (|t| t["pre_tokenizer"]["prepend_scheme"] = "last".into(), "pre_tokenizer.prepend_scheme");
    assert_refused("mistral", &[scheme]);
}

/// What the library does not read says nothing here either, and the first files had no types of models.
#[test]
fn fields_that_nobody_reads_are_left_aside() {
    let text = "Who keeps the Oslo ledger? 42";
    let expected = load("qwen").encode_prompt(text).unwrap();
    let edits: [fn(&mut Value); 4] = [
        |t| t["new"] = 1.into(),
        |t| t["model"]["new"] = json!({"a": 1}),
        |t| drop(t["model"].as_object_mut().unwrap().shift_remove("type")),
        |t| t["decoder"] = json!({"type": "Sequence", "decoders": [t["decoder"].clone()]}),
    ];
    for edit in edits {
        assert_eq!(changed("qwen", edit).unwrap().encode_prompt(text).unwrap(), expected);
    }
}

/// Padding, truncation and an unknown token do not change what a text is; a byte token of a name does not either.
#[test]
fn settings_of_other_uses_are_left_aside() {
    let padded = changed("llama2", |t| {
        t["truncation"] =
            json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        t["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
    });
    let text = "Who keeps the Oslo ledger?";
    assert_eq!(padded.unwrap().encode_text(text).unwrap(), load("llama2").encode_text(text).unwrap());
}

/// Patterns that match nothing, everywhere, or with much backtracking split text without losing any of it.
#[test]
fn odd_patterns_lose_no_text() {
    let text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa! 日本\n b";
    for pattern in
        ["", "^", "$", "(?=a)", "(?!a)", "\\b", ".", "(a+)+$", "(?:(a*)*)*b(?<=x)", "(?s).*", "[^a]"]
    {
        for behavior in ["Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] {
            for invert in [false, true] {
                let tokenizer = changed("qwen", |t| {
                    let split = &mut t["pre_tokenizer"]["pretokenizers"][0];
                    split["pattern"]["Regex"] = pattern.into();
                    split["behavior"] = behavior.into();
                    split["invert"] = invert.into();
                })
                .unwrap();
                let ids = tokenizer.encode_text(text).unwrap();
                assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{pattern} {behavior} {invert}");
            }
        }
    }
}

/// Metaspace as older files have it, without a scheme.
#[test]
fn metaspace_without_a_scheme_is_read() {
    let old = changed("metaspace", |t| {
        t["pre_tokenizer"].as_object_mut().unwrap().shift_remove("prepend_scheme");
        t["pre_tokenizer"]["add_prefix_space"] = true.into();
    });
    let text = "</s>keeps the ledger</s>";
    assert_eq!(old.unwrap().encode_prompt(text).unwrap(), load("metaspace").encode_prompt(text).unwrap());
}

/// Files cut off or with a byte changed load or give an error; nothing panics, and what loads can be used.
#[test]
fn damaged_files_do_no_harm() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokenizer.json");
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..240 {
        let kind = KINDS[round % KINDS.len()];
        let mut bytes = fs::read(folder(kind).join("tokenizer.json")).unwrap();
        let at = random(bytes.len());
        match round % 4 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random(8),
            2 => bytes[at] = b"0123456789{}[],:\"-"[random(18)],
            _ => drop(bytes.splice(at..(at + random(40)).min(bytes.len()), *b"1e9")),
        }
        fs::write(&path, &bytes).unwrap();
        match Tokenizer::load(dir.path()) {
            Ok(tokenizer) => {
                loaded += 1;
                let ids = tokenizer.encode_text("Who keeps the ledger? 日本 <s>").unwrap();
                tokenizer.decode(&ids).unwrap();
                tokenizer.encode_prompt("</s> x").unwrap();
            }
            Err(Error::Json { .. } | Error::UnsupportedConfig { .. } | Error::Tokenizer { .. }) => {
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(loaded > 5 && refused > 100, "{loaded} loaded, {refused} refused");
    fs::remove_file(&path).unwrap();
    assert!(matches!(Tokenizer::load(dir.path()), Err(Error::Io { .. })));
}
