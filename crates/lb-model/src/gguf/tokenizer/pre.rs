//! How byte-level tokenizers split text before they merge, by the name that GGUF files give it.

use serde_json::{Value, json};

/// One way to split text.
#[derive(Debug)]
pub(in crate::gguf) struct Pre {
    /// Values of `tokenizer.ggml.pre`; the first is written.
    pub(in crate::gguf) names: &'static [&'static str],
    /// Patterns, one splitting what the last one left, as the tokenizer.json of the model has them; none: the pattern
    /// of GPT-2, which is built into the byte-level splitter.
    patterns: &'static [&'static str],
    /// Whether text is brought to normal form C first.
    pub(super) nfc: bool,
    /// Whether a word that is a token stays whole, whatever the merges say.
    pub(super) ignore_merges: bool,
}

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Every way known here.
pub(in crate::gguf) const PRE: [Pre; 6] = [
    Pre {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        patterns: &[QWEN2],
        nfc: true,
        ignore_merges: false,
    },
    Pre { names: &["llama-bpe", "llama3", "llama-v3"], patterns: &[LLAMA3], nfc: false, ignore_merges: true },
    Pre { names: &["smaug-bpe", "dbrx"], patterns: &[LLAMA3], nfc: false, ignore_merges: false },
    Pre { names: &["tekken"], patterns: &[TEKKEN], nfc: false, ignore_merges: true },
    Pre { names: &["smollm"], patterns: &[DIGIT, GPT2], nfc: false, ignore_merges: false },
    Pre { names: &["gpt-2"], patterns: &[], nfc: false, ignore_merges: false },
];

impl Pre {
    /// The pre-tokenizer of tokenizer.json.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex});
        let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        if self.patterns.is_empty() {
            return bytes(true);
        }
        let steps: Vec<Value> = self.patterns.iter().map(split).chain([bytes(false)]).collect();
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    /// The way a tokenizer.json splits, where it is known here.
    pub(in crate::gguf) fn of(tokenizer: &Value) -> Option<&'static Self> {
        let step = &tokenizer["pre_tokenizer"];
        let steps: Vec<&Value> =
            step["pretokenizers"].as_array().map_or_else(|| vec![step], |s| s.iter().collect());
        let patterns: Vec<&str> = steps.iter().filter_map(|step| step["pattern"]["Regex"].as_str()).collect();
        let nfc = tokenizer["normalizer"]["type"] == "NFC";
        let ignore_merges = tokenizer["model"]["ignore_merges"] == true;
        PRE.iter().find(|pre| {
            // Some exporters leave NFC away; it changes no text that is in that form already.
            pre.patterns == patterns && (pre.nfc || !nfc) && pre.ignore_merges == ignore_merges
        })
    }
}
