//! Tokenizers through GGUF files: what is written reads back as the same, what the metadata do not tell lies beside.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use lb_model::{Checkpoint, Error, GgufFormat, Tokenizer, Worker};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::gguf::{Written, load};
use crate::support::assert_error;
use crate::support::checkpoints::golden;
use crate::support::gguf_bytes::{Gguf, Value};
use crate::support::random_checkpoint::Random;

const WHOLE: &str = "tokenizer.huggingface.json";
const NAME: &str = "tokenizer.ggml.pre";

/// A checkpoint's folder with the tokenizer of a golden, changed, and the file written from it.
struct Pair {
    folder: Random,
    file: Written,
}

impl Pair {
    fn of(kind: &str, edit: impl FnOnce(&mut Json)) -> Self {
        let folder = Random::of("qwen3");
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(golden("tokenizers").join(kind).join(name), folder.path().join(name)).unwrap();
        }
        let path = folder.path().join("tokenizer.json");
        let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut json);
        fs::write(&path, json.to_string()).unwrap();
        let file = Written::of(&Checkpoint::dir(folder.path()).unwrap(), GgufFormat::Q8_0);
        Self { folder, file }
    }

    fn gguf(&self) -> Gguf {
        Gguf::read(&self.file.path())
    }

    fn both(&self) -> [Worker; 2] {
        [Worker::load(self.folder.path()).unwrap(), self.file.load()]
    }
}

fn as_it_is(_: &mut Json) {}

fn only_digits(json: &mut Json) {
    json["normalizer"] = Json::Null;
    json["pre_tokenizer"]["pretokenizers"] = json!([
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    ]);
}

/// A kind, a change to its file, the name for how it splits text, and whether the whole file is written.
type Case = (&'static str, fn(&mut Json), Option<&'static str>, bool);

const CASES: [Case; 16] = [
    ("qwen", as_it_is, Some("qwen2"), false),
    ("llama3", as_it_is, Some("llama-bpe"), false),
    ("tekken", as_it_is, Some("tekken"), false),
    // Metadata know pieces and scores, from which follows every way to join two pieces; this one was trained to fewer.
    ("llama2", as_it_is, None, true),
    // They know one way of putting a space in front.
    ("mistral", as_it_is, None, true),
    ("metaspace", as_it_is, None, true),
    // Digits one by one, then the pattern of GPT-2: not the plain pattern.
    ("qwen", only_digits, Some("smollm"), false),
    // Without the normal form that the name stands for.
    ("qwen", |json| json["normalizer"] = Json::Null, Some("stablelm2"), false),
    ("llama3", |json| json["normalizer"] = json!({"type": "NFC"}), Some("llama-bpe"), true),
    ("llama3", |json| json["model"]["ignore_merges"] = false.into(), Some("smaug-bpe"), false),
    ("qwen", |json| json["model"]["ignore_merges"] = true.into(), Some("qwen2"), true),
    // A pattern that has no name.
    (
        "qwen",
        |json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+|\p{N}{2}|\s".into(),
        None,
        true,
    ),
    (
        "qwen",
        |json| json["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "MergedWithNext".into(),
        None,
        true,
    ),
    ("qwen", |json| json["added_tokens"][3]["lstrip"] = true.into(), Some("qwen2"), true),
    // A byte without a token, and a file that has another one for such bytes.
    (
        "qwen",
        |json| drop(json["model"]["vocab"].as_object_mut().unwrap().shift_remove("\u{107}")),
        Some("qwen2"),
        false,
    ),
    (
        "tekken",
        |json| {
            json["model"]["vocab"].as_object_mut().unwrap().shift_remove("\u{107}");
            json["model"]["unk_token"] = "<unk>".into();
        },
        Some("tekken"),
        true,
    ),
];

fn pairs() -> &'static [[Worker; 2]] {
    static PAIRS: OnceLock<Vec<[Worker; 2]>> = OnceLock::new();
    PAIRS.get_or_init(|| CASES.iter().map(|(kind, edit, ..)| Pair::of(kind, edit).both()).collect())
}

#[test]
fn names_are_written_where_they_say_all() {
    for (kind, edit, name, whole) in CASES {
        let gguf = Pair::of(kind, edit).gguf();
        let written = gguf.values.iter().find(|(key, _)| key == NAME).map(|(_, value)| match value {
            Value::Raw(8, bytes) => String::from_utf8(bytes[8..].to_vec()).unwrap(),
            other => panic!("{other:?}"),
        });
        assert_eq!(written.as_deref(), name, "{kind}");
        assert_eq!(gguf.has(WHOLE), whole, "{kind}, {name:?}");
    }
}

/// Text as it comes: any characters, and more of those that tokenizers stumble over.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        4 => any::<char>().prop_map(String::from),
        3 => "[ -~]{1,12}",
        3 => "[a-zA-Z\u{C0}-\u{24F}'\u{2019} ]{1,12}",
        2 => "[0-9\u{660}-\u{669}\u{2160}-\u{2188}\u{B2}\u{BD},.]{1,9}",
        2 => prop::sample::select(vec![
            "\r\n", "\n", "\r", "\t", " ", "  ", "\u{A0}", "\u{2003}", "\u{3000}", "\u{200B}", "\u{FEFF}", "\n\n ",
            "e\u{301}", "A\u{30A}", "\u{212B}", "\u{1F468}\u{200D}\u{1F469}", "\u{1F1F3}\u{1F1F4}", "\u{2581}", "\u{120}",
            "'s", "'LL", "I'm", "<|im_end|>", "</s>", "<unk>", "<0x0A>", "[INST]", "\u{F8FE}\u{F8FF}", "\u{7F}", "\0",
        ]).prop_map(str::to_owned),
        1 => "[\u{0}-\u{1F}]{1,4}",
        1 => "[\u{4E00}-\u{4FFF}\u{3040}-\u{30FF}\u{AC00}-\u{ADFF}]{1,6}",
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn what_is_written_reads_back_as_the_same_tokens(text in text()) {
        for ([folder, file], (kind, _, name, _)) in pairs().iter().zip(CASES) {
            let (a, b) = (folder.tokenizer(), file.tokenizer());
            prop_assert_eq!(a.encode_text(&text).unwrap(), b.encode_text(&text).unwrap(), "{} {:?}", kind, name);
            prop_assert_eq!(a.encode_template(&text).unwrap(), b.encode_template(&text).unwrap(), "{}", kind);
            let prompt = a.encode_prompt(&text).unwrap();
            prop_assert_eq!(&prompt, &b.encode_prompt(&text).unwrap(), "{} {:?}", kind, name);
            prop_assert_eq!(a.decode(&prompt).unwrap(), b.decode(&prompt).unwrap(), "{}", kind);
        }
    }

    #[test]
    fn windows_have_no_seams(texts in prop::collection::vec(text(), 8..40), window in 96_usize..400) {
        let text = texts.join(" ");
        for ([folder, _], (kind, _, name, _)) in pairs().iter().zip(CASES) {
            let tokenizer = folder.tokenizer();
            let (whole, cut) =
                (tokenizer.encode_text(&text).unwrap(), tokenizer.encode_text_in_windows(&text, window).unwrap());
            prop_assert_eq!(whole, cut, "{} {:?}", kind, name);
        }
    }
}

/// What is too long is found early, and who waits is asked.
#[test]
fn a_long_text_is_read_no_further_than_there_is_room() {
    for [worker, _] in pairs() {
        let tokenizer = worker.tokenizer();
        let mut asked = 0;
        let long = "a word, 12 ".repeat(200_000);
        let error = tokenizer
            .encode_text_within(&long, 1_000, &mut || {
                asked += 1;
                true
            })
            .unwrap_err();
        assert_error!(error, Error::TooManyTokens { bytes: 2_200_000, most: 1_000 }, "more than 1000 tokens");
        assert!(asked <= 2, "{asked} windows");
        let mut left = 3;
        let mut three_times = || {
            left -= 1;
            left > 0
        };
        let error = tokenizer.encode_text_within(&long, usize::MAX, &mut three_times).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        // A run without an end is cut where a window ends.
        let run = "y".repeat(200_000);
        let tokens = tokenizer.encode_text_within(&run, usize::MAX, &mut || true).unwrap();
        assert_eq!(tokenizer.decode(&tokens).unwrap(), run);
        let (start, all) = tokenizer.encode_text_start(&long, 10, 1_000, &mut || true).unwrap();
        let exact = tokenizer.encode_text(&long).unwrap();
        assert_eq!(start, exact[..10]);
        assert!((all as f64 / exact.len() as f64 - 1.0).abs() < 0.01, "{all} of {}", exact.len());
        let (start, all) = tokenizer.encode_text_start("Anara keeps it", 1, 1_000, &mut || true).unwrap();
        assert_eq!((start.len(), all), (1, tokenizer.encode_text("Anara keeps it").unwrap().len()));
        let text = "Anara keeps the ledger, 121212.";
        let just = tokenizer.encode_text(text).unwrap();
        assert_eq!(tokenizer.encode_text_within(text, just.len(), &mut || true).unwrap(), just);
        assert!(tokenizer.encode_text_within(text, just.len() - 1, &mut || true).is_err());
        assert!(tokenizer.encode_text_within("", 0, &mut || true).unwrap().is_empty());
    }
}

/// The digits of the public report: six tokens in the folder, and six in the file.
#[test]
fn digits_stay_single() {
    for worker in Pair::of("qwen", only_digits).both() {
        assert_eq!(worker.tokenizer().encode_prompt("121212").unwrap().len(), 6);
    }
}

/// The written file says nothing of the name, or one that nobody knows: the tokenizer.json beside it is read.
#[test]
fn a_name_that_is_unknown_or_missing_asks_for_the_file_beside() {
    let text = "I'll pay 1234 in 東京\r\n <|im_end|>";
    for name in [None, Some("klingon"), Some("viking")] {
        let pair = Pair::of("qwen", as_it_is);
        let mut gguf = pair.gguf();
        gguf.values.retain(|(key, _)| key != NAME);
        if let Some(name) = name {
            gguf.set(NAME, Value::Text(name.into()));
        }
        gguf.write(&pair.file.path());
        let error = load(&pair.file.path()).unwrap_err();
        assert_error!(
            error,
            Error::UnsupportedConfig { .. },
            NAME,
            name.unwrap_or("nothing"),
            "tokenizer.json beside"
        );
        let beside = pair.file.path().with_file_name("tokenizer.json");
        fs::copy(pair.folder.path().join("tokenizer.json"), &beside).unwrap();
        let [folder, file] = pair.both();
        assert_eq!(
            folder.tokenizer().encode_prompt(text).unwrap(),
            file.tokenizer().encode_prompt(text).unwrap()
        );
        // One of another model has other tokens.
        let other = golden("tokenizers/llama3/tokenizer.json");
        fs::copy(other, &beside).unwrap();
        assert_error!(
            load(&pair.file.path()).unwrap_err(),
            Error::Corrupt { .. },
            "tokenizer.json",
            "another model"
        );
    }
    // No merges, as in files of models that had a slow tokenizer.
    let pair = Pair::of("qwen", as_it_is);
    let mut gguf = pair.gguf();
    gguf.values.retain(|(key, _)| key != "tokenizer.ggml.merges");
    gguf.write(&pair.file.path());
    assert_error!(load(&pair.file.path()).unwrap_err(), Error::MissingField { .. }, "tokenizer.ggml.merges");
    fs::copy(pair.folder.path().join("tokenizer.json"), pair.file.path().with_file_name("tokenizer.json"))
        .unwrap();
    assert!(load(&pair.file.path()).is_ok());
    // A kind of tokenizer that is not known.
    let pair = Pair::of("qwen", as_it_is);
    let mut gguf = pair.gguf();
    gguf.set("tokenizer.ggml.model", Value::Text("plamo2".into()));
    gguf.write(&pair.file.path());
    let error = load(&pair.file.path()).unwrap_err();
    assert_error!(error, Error::UnsupportedConfig { .. }, "tokenizer.ggml.model", "plamo2", "beside");
}

/// A known name wins over a file beside, which may be of anything.
#[test]
fn a_known_name_needs_no_file_beside() {
    let pair = Pair::of("qwen", as_it_is);
    fs::write(pair.file.path().with_file_name("tokenizer.json"), "{").unwrap();
    assert!(load(&pair.file.path()).is_ok());
}

/// `token_type` as some converters get it wrong: the ends of turns are control tokens whatever it says.
#[test]
fn control_tokens_are_known_by_their_text() {
    let pair = Pair::of("qwen", as_it_is);
    let mut gguf = pair.gguf();
    gguf.set("tokenizer.ggml.token_type", {
        let types: Vec<u8> = (0..448i32).flat_map(|_| 1i32.to_le_bytes()).collect();
        let head = [5u32.to_le_bytes().to_vec(), 448u64.to_le_bytes().to_vec()].concat();
        Value::Raw(9, [head, types].concat())
    });
    gguf.write(&pair.file.path());
    let tokenizer = pair.file.load();
    let tokenizer = tokenizer.tokenizer();
    assert_eq!(tokenizer.encode_template("<|im_end|>").unwrap(), [422]);
    assert!(!tokenizer.encode_text("<|im_end|>").unwrap().contains(&422));
    assert!(tokenizer.eos_ids().contains(&422));
}

/// The folder of a golden tokenizer, changed.
fn changed(kind: &str, edit: impl FnOnce(&mut Json)) -> (TempDir, Tokenizer) {
    let folder = TempDir::new().unwrap();
    let path: PathBuf = golden("tokenizers").join(kind).join("tokenizer.json");
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    (folder, tokenizer)
}

/// SmolLM2 lacks 21 bytes, control characters among them: text with one loses it, as in transformers and llama.cpp.
#[test]
fn bytes_without_a_token_are_dropped() {
    let (_folder, tokenizer) = changed("qwen", |json| {
        for byte in ['\u{107}', '\u{108}', '\u{121}'] {
            json["model"]["vocab"].as_object_mut().unwrap().shift_remove(&byte.to_string());
        }
    });
    assert_eq!(tokenizer.missing_bytes(), [7, 8, 0x7F]);
    let ids = |text: &str| tokenizer.encode_text(text).unwrap();
    assert_eq!(ids("ab\u{7}c\u{8}"), [ids("ab"), ids("c")].concat());
    assert!(tokenizer.encode_prompt("\u{7}").unwrap().is_empty());
    assert_eq!(tokenizer.decode(&ids("x\u{7F}y")).unwrap(), "xy");
}

/// Where the file names a token for them, they are that token, in documents too; its text is no such token.
#[test]
fn bytes_without_a_token_are_the_unknown_token() {
    for kind in ["tekken", "llama2"] {
        let byte = if kind == "tekken" { "\u{107}" } else { "<0x07>" };
        let (_folder, tokenizer) = changed(kind, |json| {
            json["model"]["vocab"].as_object_mut().unwrap().shift_remove(byte);
            json["model"]["unk_token"] = "<unk>".into();
        });
        assert_eq!(tokenizer.missing_bytes(), [7], "{kind}");
        for ids in [tokenizer.encode_text("a\u{7}b").unwrap(), tokenizer.encode_template("a\u{7}b").unwrap()]
        {
            assert_eq!(ids.iter().filter(|id| **id == 0).count(), 1, "{kind}: {ids:?}");
            assert!(tokenizer.decode(&ids).unwrap().contains("a<unk>b"), "{kind}");
        }
        for text in ["<unk>", "\u{F8FE}\u{F8FF}", " <unk> \u{F8FE}\u{F8FF}"] {
            assert!(!tokenizer.encode_text(text).unwrap().contains(&0), "{kind}: {text}");
        }
        assert!(tokenizer.encode_template("<unk>").unwrap().contains(&0), "{kind}");
    }
}

/// Added tokens have the ids of the file, also behind a hole and out of order.
#[test]
fn added_tokens_keep_their_ids() {
    let (_folder, tokenizer) = changed("qwen", |json| {
        json["added_tokens"][1]["id"] = 9999.into();
        json["added_tokens"][4]["id"] = 777.into();
    });
    let ids = tokenizer.encode_template("<|im_start|>a</think><|im_end|>").unwrap();
    assert_eq!([ids[0], ids[2], ids[3]], [9999, 777, 422]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "<|im_start|>a</think><|im_end|>");
    assert!(tokenizer.encode_text("<|im_start|>").unwrap().iter().all(|id| *id < 420));
}

/// Tokens beyond the embedding are an error where a text has one, not before.
#[test]
fn tokens_beyond_the_embedding_fail_where_they_are_used() {
    let pair = Pair::of("qwen", |json| {
        let mut token = json["added_tokens"][0].clone();
        (token["id"], token["content"]) = (448.into(), "<|extra|>".into());
        json["added_tokens"].as_array_mut().unwrap().push(token);
    });
    assert!(pair.gguf().has(WHOLE), "the token has no place in the file's list");
    for worker in pair.both() {
        let tokenizer = worker.tokenizer();
        assert!(tokenizer.encode_template("one <|im_end|>").is_ok());
        assert!(tokenizer.encode_text("<|extra|>").is_ok());
        let refused = tokenizer.encode_template("a<|extra|>").unwrap_err();
        assert_error!(refused, Error::TokenizerMismatch { id: 448, vocab_size: 448, .. }, "<|extra|>");
        assert!(tokenizer.encode_prompt("<|extra|>").is_err());
    }
}
