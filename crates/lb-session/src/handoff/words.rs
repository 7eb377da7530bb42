//! Text as the words that retrieval goes by.

use bm25::Tokenizer;
use unicode_segmentation::UnicodeSegmentation;

/// Words as Unicode has them, in lower case, and the parts of identifiers: `parse_config2` is also `parse`, `config` and
/// `2`. No stems and no stop words: those belong to one language, and names and numbers are asked for as they are written.
#[derive(Debug, Default)]
pub(super) struct Words;

impl Tokenizer for Words {
    fn tokenize(&self, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for word in text.unicode_words() {
            words.push(word.to_lowercase());
            let parts = parts(word);
            if parts.len() > 1 {
                words.extend(parts.into_iter().map(str::to_lowercase));
            }
        }
        words
    }
}

/// What a person reads apart in an identifier.
fn parts(word: &str) -> Vec<&str> {
    let (mut parts, mut start, mut last) = (Vec::new(), 0, None::<char>);
    for (at, character) in word.char_indices() {
        let cut = last.is_some_and(|last| {
            let mark = last.is_ascii_punctuation() || character.is_ascii_punctuation();
            let hump = last.is_lowercase() && character.is_uppercase();
            mark || hump || last.is_numeric() != character.is_numeric()
        });
        if cut {
            parts.push(&word[start..at]);
            start = at;
        }
        last = Some(character);
    }
    parts.push(&word[start..]);
    parts.retain(|part| part.chars().any(char::is_alphanumeric));
    parts
}

#[cfg(test)]
mod tests {
    use bm25::Tokenizer;

    use super::Words;

    #[test]
    fn words_are_those_of_any_language() {
        let words = |text: &str| Words.tokenize(text);
        assert_eq!(words("Who keeps the LEDGER?"), ["who", "keeps", "the", "ledger"]);
        assert_eq!(words("parse_config2"), ["parse_config2", "parse", "config", "2"]);
        assert_eq!(words("parseConfig"), ["parseconfig", "parse", "config"]);
        assert_eq!(words("5,521 or 5521"), ["5,521", "5", "521", "or", "5521"]);
        assert_eq!(words("Zoë straße"), ["zoë", "straße"]);
        assert_eq!(words("東京"), ["東", "京"]);
        assert_eq!(words("ключ_входа"), ["ключ_входа", "ключ", "входа"]);
        assert!(words("?! — \n").is_empty());
    }
}
