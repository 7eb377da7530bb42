//! Texts that end an answer, found across the borders of tokens.

/// What is written, held back while it may be the beginning of a text that ends the answer.
#[derive(Debug, Default)]
pub(super) struct Stops {
    ends: Vec<String>,
    held: String,
    /// The one that came.
    pub(super) hit: Option<String>,
}

impl Stops {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { ends: stops, held: String::new(), hit: None }
    }

    /// The text that can be told now. Once a stop has come there is no more.
    pub(super) fn push(&mut self, text: &str) -> String {
        if self.hit.is_some() {
            return String::new();
        }
        if self.ends.is_empty() {
            return text.to_owned();
        }
        self.held.push_str(text);
        let first = self.ends.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = first.min_by_key(|(at, stop)| (*at, std::cmp::Reverse(stop.len()))) {
            self.hit = Some(stop.clone());
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        // The longest end that may be the beginning of a stop.
        let waits = |from: &usize| {
            let end = &self.held[*from..];
            self.ends.iter().any(|stop| stop.len() > end.len() && stop.starts_with(end))
        };
        let borders = self.held.char_indices().map(|(at, _)| at);
        let from = borders.filter(|at| waits(at)).min().unwrap_or(self.held.len());
        let rest = self.held.split_off(from);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back, where the answer ended for another reason.
    pub(super) fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::Stops;

    fn told(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut own = Stops::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut told: String = pieces.iter().map(|piece| own.push(piece)).collect();
        if own.hit.is_none() {
            told += &own.rest();
        }
        (told, own.hit)
    }

    #[test]
    fn a_stop_is_found_across_tokens_and_nothing_behind_it_is_told() {
        assert_eq!(told(&["END"], &["a E", "N", "D b", "c"]), ("a ".to_owned(), Some("END".to_owned())));
        assert_eq!(told(&["END"], &["a E", "N", "x"]), ("a ENx".to_owned(), None));
        assert_eq!(told(&["aab"], &["a", "a", "a", "b"]), ("a".to_owned(), Some("aab".to_owned())));
        assert_eq!(told(&["\n\n", "ü"], &["x\n", "y", "ü"]), ("x\ny".to_owned(), Some("ü".to_owned())));
    }

    #[test]
    fn what_is_held_back_at_the_end_is_told() {
        assert_eq!(told(&["END"], &["a E", "N"]), ("a EN".to_owned(), None));
        assert_eq!(told(&[], &["a", "b"]), ("ab".to_owned(), None));
    }
}
