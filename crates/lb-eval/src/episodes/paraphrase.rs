//! Questions that ask in other words than the log tells.

use std::collections::BTreeSet;

use super::{Episode, Kind};

/// Words that say nothing of what is asked.
const FUNCTION_WORDS: [&str; 40] = [
    "a", "an", "and", "as", "at", "be", "by", "do", "does", "for", "from", "has", "have", "in", "is", "it",
    "its", "me", "not", "now", "of", "on", "please", "say", "tell", "that", "the", "there", "this", "to",
    "was", "we", "what", "where", "which", "who", "whom", "whose", "with", "you",
];

impl Episode {
    /// Whether a question about one fact shares no word with any line that names both its subject and its answer, but
    /// for names, what they name, and function words. `None` for questions that join several facts.
    pub fn is_paraphrased(&self, question: usize) -> Option<bool> {
        let question = self.questions.get(question)?;
        if !matches!(question.kind, Kind::OneHop | Kind::Corrected) {
            return None;
        }
        let (names, asked) = split(&question.text);
        let telling = self.lines.iter().filter(|line| {
            line.text.contains(&question.answer) && names.iter().any(|name| line.text.contains(name.as_str()))
        });
        let mut told = telling.map(|line| split(&line.text).1).peekable();
        told.peek()?;
        Some(told.all(|words| words.is_disjoint(&asked)))
    }
}

/// Names, and the other words in small letters. A name is a word with a capital that does not begin the text; the word
/// behind it is what it names.
fn split(text: &str) -> (Vec<String>, BTreeSet<String>) {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is_name = |i: usize| i > 0 && words[i].starts_with(char::is_uppercase);
    let names = (0..words.len()).filter(|i| is_name(*i)).map(|i| words[i].to_owned()).collect();
    let others = (0..words.len())
        .filter(|i| !is_name(*i) && (*i == 0 || !is_name(i - 1)))
        .map(|i| words[i].to_lowercase())
        .filter(|word| !FUNCTION_WORDS.contains(&word.as_str()))
        .collect();
    (names, others)
}

#[cfg(test)]
mod tests {
    use super::split;
    use crate::episodes::{Episode, EpisodeConfig, Kind};

    #[test]
    fn names_and_what_they_name_are_no_words_of_the_question() {
        let (names, words) = split("Who looks after the Velmar ledger in Oslund?");
        assert_eq!(names, ["Velmar", "Oslund"]);
        assert_eq!(words.into_iter().collect::<Vec<_>>(), ["after", "looks"]);
    }

    #[test]
    fn some_questions_are_paraphrased_and_some_are_not() {
        let config = EpisodeConfig::held_out((300, 600), 8);
        let (mut yes, mut no, mut joined) = (0, 0, 0);
        for seed in 0..40 {
            let episode = Episode::generate(seed, &config).unwrap();
            for (number, question) in episode.questions.iter().enumerate() {
                match episode.is_paraphrased(number) {
                    Some(true) => yes += 1,
                    Some(false) => no += 1,
                    None => joined += usize::from(!matches!(question.kind, Kind::OneHop | Kind::Corrected)),
                }
            }
            assert_eq!(episode.is_paraphrased(999), None);
        }
        assert!(yes > 10 && no > 10 && joined > 10, "{yes} {no} {joined}");
    }
}
