//! How byte-level tokenizers split text before they merge, by the name that GGUF files give it.

use serde_json::{Value, json};

/// One way to split text.
#[derive(Debug)]
pub(in crate::gguf) struct Pre {
    /// Values of `tokenizer.ggml.pre`; the first is written.
    pub(in crate::gguf) names: &'static [&'static str],
    /// Patterns, one splitting what the last one left, as the tokenizer.json of the model has them.
    patterns: &'static [&'static str],
    /// Whether text is brought to normal form C first. llama.cpp does not, the models' own tokenizers do.
    pub(super) nfc: bool,
    /// Whether a word that is a token stays whole, whatever the merges say.
    pub(super) ignore_merges: bool,
}

/// The pattern of GPT-2, which is built into the byte-level splitter.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const DIGIT: &str = r"\p{N}";
pub(super) const DIGITS: &str = r"\p{N}+";
const UP_TO_THREE_DIGITS: &str = r"\p{N}{1,3}";
const LINE_END: &str = r"[\r\n]";
/// Chinese, Japanese and Korean, as the first DeepSeek tokenizers have it.
const EAST_ASIAN: &str = "[一-龥ࠀ-一가-\u{D7FF}]+";
/// Letters with two cases, by ranges.
const DEEPSEEK_WORD: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1F7D}ᾀ-ᾴᾶ-ᾼ\u{1FBE}ῂ-ῄῆ-ῌῐ-\u{1FD3}ῖ-\u{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_SIGNS: &str = "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

const fn pre(names: &'static [&'static str], patterns: &'static [&'static str]) -> Pre {
    Pre { names, patterns, nfc: false, ignore_merges: false }
}

/// Every way known here. Names that llama.cpp treats alike share a row, but for normal form C.
pub(in crate::gguf) const PRE: [Pre; 14] = [
    Pre { nfc: true, ..pre(&["qwen2", "deepseek-r1-qwen", "megrez", "f2llmv2"], &[QWEN2]) },
    pre(&["stablelm2", "hunyuan", "solar-open", "kormo", "grok-2"], &[QWEN2]),
    Pre {
        ignore_merges: true,
        ..pre(&["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0", "lfm2"], &[LLAMA3])
    },
    pre(&["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"], &[LLAMA3]),
    Pre { ignore_merges: true, ..pre(&["tekken"], &[TEKKEN]) },
    pre(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[DIGIT, GPT2],
    ),
    pre(
        &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "a.x-4.0", "mellum"],
        &[GPT2],
    ),
    // What llama.cpp does where it knows no better; some converters wrote it down as a name.
    pre(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, DIGITS, "[0-9][0-9][0-9]"]),
    pre(&["deepseek-llm"], &[LINE_END, DEEPSEEK_WORD, DEEPSEEK_SIGNS, r"\s+$", EAST_ASIAN, DIGITS]),
    pre(&["deepseek-coder"], &[LINE_END, r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN, DIGIT]),
    pre(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[UP_TO_THREE_DIGITS, "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK3],
    ),
    pre(&["seed-coder"], &[SEED]),
    pre(&["gpt-4o", "llama4", "kanana2"], &[GPT4O]),
    Pre { ignore_merges: true, ..pre(&["minicpm5"], &[UP_TO_THREE_DIGITS, MINICPM5]) },
];

impl Pre {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        PRE.iter().find(|pre| pre.names.contains(&name))
    }

    /// The pre-tokenizer of tokenizer.json.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let steps: Vec<Value> = self.patterns.iter().map(split).chain([bytes]).collect();
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    /// The way that splits text as a tokenizer.json does, the whole of its steps considered. Where several do, one that
    /// agrees in the rest comes first; whether all agrees is for [`same`](super::same) to say.
    pub(in crate::gguf) fn of(tokenizer: &Value) -> Option<&'static Self> {
        let steps = super::same::splits(&tokenizer["pre_tokenizer"])?;
        let nfc = tokenizer["normalizer"]["type"] == "NFC";
        let ignore_merges = tokenizer["model"]["ignore_merges"] == true;
        let fits =
            PRE.iter().filter(|pre| super::same::splits(&pre.pre_tokenizer()).as_ref() == Some(&steps));
        fits.max_by_key(|pre| {
            [pre.nfc == nfc, pre.ignore_merges == ignore_merges].iter().filter(|x| **x).count()
        })
    }
}
