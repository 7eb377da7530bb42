//! Which of the supported tokenizers a file describes.

use serde_json::Value;

use crate::config::unsupported;
use crate::{Error, Result};

/// How tokens stand for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Every byte is a character of an alphabet of 256.
    ByteLevel,
    /// A space is `▁`; characters without a token are spelled in bytes, `<0xE6><0x97><0xA5>`.
    SentencePiece { prefix: Prefix, strips_first_space: bool },
}

/// Where SentencePiece puts a space in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    Never,
    /// Of a whole text.
    First,
    /// Of a whole text, and behind every control token.
    EverySection,
}

impl Kind {
    pub(super) fn prefix(self) -> Prefix {
        match self {
            Self::ByteLevel => Prefix::Never,
            Self::SentencePiece { prefix, .. } => prefix,
        }
    }

    pub(super) fn strips_first_space(self) -> bool {
        matches!(self, Self::SentencePiece { strips_first_space: true, .. })
    }

    /// Reads normalizer, pre-tokenizer and decoder, and refuses what it does not know.
    pub(super) fn of(file: &Value) -> Result<Self> {
        let mut decoder = &file["decoder"];
        if let Some([only]) = decoder["decoders"].as_array().map(Vec::as_slice) {
            decoder = only;
        }
        match decoder["type"].as_str() {
            Some("ByteLevel") => {
                check_byte_level(file)?;
                Ok(Self::ByteLevel)
            }
            Some("Sequence") => {
                let strips_first_space = fallback_decoder(decoder)?;
                Ok(Self::SentencePiece { prefix: sentence_piece_prefix(file)?, strips_first_space })
            }
            _ => {
                let reason = "ByteLevel and the Sequence of Replace, ByteFallback, Fuse and Strip are known";
                Err(unsupported("decoder.type", &decoder["type"], reason))
            }
        }
    }
}

/// The steps of a component, which is nothing, one thing, or a `Sequence` of them.
pub(super) fn steps<'a>(file: &'a Value, field: &str, list: &str) -> Result<Vec<&'a Value>> {
    let value = &file[field];
    match value["type"].as_str() {
        _ if value.is_null() => Ok(Vec::new()),
        Some("Sequence") => match &value[list] {
            Value::Array(steps) => Ok(steps.iter().collect()),
            other => Err(unsupported(&format!("{field}.{list}"), other, "expected a list")),
        },
        _ => Ok(vec![value]),
    }
}

fn check_byte_level(file: &Value) -> Result<()> {
    for step in steps(file, "normalizer", "normalizers")? {
        if step["type"] != "NFC" {
            return Err(unsupported(
                "normalizer",
                step,
                "byte-level tokenizers normalise by NFC or not at all",
            ));
        }
    }
    let steps = steps(file, "pre_tokenizer", "pretokenizers")?;
    for step in &steps {
        match step["type"].as_str() {
            Some("ByteLevel") if step["add_prefix_space"] == false => {}
            Some("ByteLevel") => {
                let field = "pre_tokenizer.add_prefix_space";
                return Err(unsupported(field, &step["add_prefix_space"], "only false"));
            }
            // Removing what does not match keeps all text where the pattern covers all, as those of tiktoken do.
            Some("Split" | "Punctuation") if step["behavior"] == "Removed" && step["invert"] != true => {
                return Err(unsupported("pre_tokenizer.behavior", &step["behavior"], "text would be lost"));
            }
            Some("Split") => check_pattern(&step["pattern"])?,
            Some("Digits" | "Punctuation") => {}
            _ => {
                let reason = "ByteLevel, Split, Digits and Punctuation are known";
                return Err(unsupported("pre_tokenizer", step, reason));
            }
        }
    }
    let byte_steps = steps.iter().filter(|step| step["type"] == "ByteLevel").count();
    if byte_steps == 1 {
        Ok(())
    } else {
        Err(unsupported("pre_tokenizer", &file["pre_tokenizer"], "one step must be ByteLevel"))
    }
}

/// Counted repetitions multiply in the compiled pattern; a short text could ask for gigabytes.
fn check_pattern(pattern: &Value) -> Result<()> {
    const MAX_REPETITIONS: u64 = 10_000;
    const MAX_LENGTH: usize = 20_000;
    let Some(regex) = pattern["Regex"].as_str() else { return Ok(()) };
    let mut repetitions = 1u64;
    for part in regex.split('{').skip(1) {
        let count = part.split('}').next().unwrap_or_default();
        let most = count.split(',').filter_map(|n| n.trim().parse::<u64>().ok()).max();
        repetitions = repetitions.saturating_mul(most.unwrap_or(1).max(1));
    }
    if repetitions > MAX_REPETITIONS || regex.len() > MAX_LENGTH {
        return Err(unsupported("pre_tokenizer.pattern", pattern, "the pattern is too large"));
    }
    Ok(())
}

fn sentence_piece_prefix(file: &Value) -> Result<Prefix> {
    let normalizers = steps(file, "normalizer", "normalizers")?;
    let is_prepend = |step: &Value| step["type"] == "Prepend" && step["prepend"] == "▁";
    let is_replace = |step: &Value| {
        step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == "▁"
    };
    let is_split = |step: &Value| step["type"] == "Split" && step["pattern"]["String"] == " ";
    let pre_tokenizers = steps(file, "pre_tokenizer", "pretokenizers")?;
    match (&normalizers[..], &pre_tokenizers[..]) {
        ([prepend, replace], []) if is_prepend(prepend) && is_replace(replace) => Ok(Prefix::EverySection),
        ([replace], []) if is_replace(replace) => Ok(Prefix::Never),
        // Gemma's splits at the spaces, of which none are left.
        ([replace], [split]) if is_replace(replace) && is_split(split) => Ok(Prefix::Never),
        ([], [metaspace]) if metaspace["type"] == "Metaspace" && metaspace["replacement"] == "▁" => {
            match metaspace["prepend_scheme"].as_str() {
                Some("first") => Ok(Prefix::First),
                Some("always") => Ok(Prefix::EverySection),
                Some("never") => Ok(Prefix::Never),
                // As files before the schemes had it.
                None if metaspace["prepend_scheme"].is_null() => {
                    match metaspace["add_prefix_space"].as_bool() {
                        Some(false) => Ok(Prefix::Never),
                        _ => Ok(Prefix::EverySection),
                    }
                }
                _ => {
                    let field = "pre_tokenizer.prepend_scheme";
                    Err(unsupported(field, &metaspace["prepend_scheme"], "first, always and never are known"))
                }
            }
        }
        (_, []) => {
            let reason = "with byte fallback, Prepend ▁ and Replace ' ' by ▁ are known";
            Err(unsupported("normalizer", &file["normalizer"], reason))
        }
        _ => {
            let reason = "with byte fallback, Metaspace with ▁ and no normalizer is known";
            Err(unsupported("pre_tokenizer", &file["pre_tokenizer"], reason))
        }
    }
}

/// Whether the decoder drops one space at the start.
fn fallback_decoder(decoder: &Value) -> Result<bool> {
    let known = || -> Option<bool> {
        let [replace, fallback, fuse, rest @ ..] = &decoder["decoders"].as_array()?[..] else { return None };
        let replaces =
            replace["type"] == "Replace" && replace["pattern"]["String"] == "▁" && replace["content"] == " ";
        let common = replaces && fallback["type"] == "ByteFallback" && fuse["type"] == "Fuse";
        let strips = match rest {
            [] => false,
            [strip] if strip["type"] == "Strip" && strip["content"] == " " && strip["stop"] == 0 => {
                match strip["start"].as_u64()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                }
            }
            _ => return None,
        };
        common.then_some(strips)
    };
    known().ok_or_else(|| -> Error {
        let reason =
            "known is Replace ▁ by ' ', ByteFallback, Fuse, and Strip of at most one space at the start";
        unsupported("decoder", decoder, reason)
    })
}
