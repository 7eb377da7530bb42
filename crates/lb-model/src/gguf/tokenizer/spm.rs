//! Tokenizers made by SentencePiece, whose pieces have scores instead of merges.

use serde_json::{Value, json};

use super::{SCORES, Token, added, ids, kind};
use crate::gguf::Gguf;
use crate::{Error, Result};

/// SentencePiece makes pieces of 16 characters unless told otherwise.
const MAX_PIECE: usize = 512;
/// What stands for a space.
const SPACE: &str = "\u{2581}";

impl Gguf {
    /// Pieces joined in the order of their scores, bytes for what has no piece.
    pub(super) fn sentence_pieces(&self) -> Result<Value> {
        let tokens = self.tokens()?;
        let scores = self.numbers(SCORES)?.ok_or_else(|| self.missing(SCORES))?;
        let merges = self.merges(&tokens, &scores)?;
        let unknown = tokens.iter().find(|token| token.kind == kind::UNKNOWN).map(|token| token.text);
        let prefix = self.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})];
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added(&tokens),
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": null,
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": unknown,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": true,
                "byte_fallback": true,
                "ignore_merges": false,
                "vocab": self.vocab(&tokens)?,
                "merges": merges,
            },
        }))
    }

    /// Every way to join two pieces to a third, the best score first; equal ones by the lengths of their parts, as
    /// transformers converts such tokenizers.
    fn merges(&self, tokens: &[Token<'_>], scores: &[f64]) -> Result<Vec<[String; 2]>> {
        let ids = ids(tokens);
        let mut merges = Vec::new();
        for token in tokens.iter().filter(|token| !token.is_added() && token.kind != kind::BYTE) {
            if token.text.len() > MAX_PIECE {
                let reason = format!(
                    "the piece {} has {} bytes, at most {MAX_PIECE} are read",
                    token.id,
                    token.text.len()
                );
                return Err(Error::Corrupt { path: self.path.clone(), reason });
            }
            let Some(&score) = scores.get(token.id as usize).filter(|score| !score.is_nan()) else {
                return Err(self.mistyped(SCORES, "a number for every token"));
            };
            let mut own: Vec<(u32, u32, &str, &str)> = Vec::new();
            for (at, _) in token.text.char_indices().skip(1) {
                let (left, right) = token.text.split_at(at);
                if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                    own.push((l, r, left, right));
                }
            }
            own.sort_unstable();
            let lengths = |text: &str| text.chars().count();
            merges.extend(own.into_iter().map(|(_, _, l, r)| ((score, lengths(l), lengths(r)), l, r)));
        }
        merges.sort_by(|(a, ..), (b, ..)| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
        Ok(merges.into_iter().map(|(_, l, r)| [l.to_owned(), r.to_owned()]).collect())
    }
}
