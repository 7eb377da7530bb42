//! The letter in a reply.

/// The choice that a reply names, from 0, by the published rule: drop every `*`, find `The correct answer is (X)`, else
/// `The correct answer is X`. No match is no answer, which counts as wrong. `n_choices` is how many letters there are.
pub fn extract(response: &str, n_choices: usize) -> Option<usize> {
    const PHRASE: &str = "The correct answer is ";
    let response = response.replace('*', "");
    let behind = || response.match_indices(PHRASE).map(|(at, _)| &response[at + PHRASE.len()..]);
    let in_brackets = |rest: &str| {
        let mut chars = rest.strip_prefix('(')?.chars();
        let choice = choice(chars.next()?, n_choices)?;
        (chars.next() == Some(')')).then_some(choice)
    };
    let bare = |rest: &str| choice(rest.chars().next()?, n_choices);
    behind().find_map(in_brackets).or_else(|| behind().find_map(bare))
}

/// [`extract`], and where it finds nothing a letter that opens the reply and stands for itself: `B`, `(B)`, `B.`, `B: ...`.
/// Not the published rule: for models that were not trained on its form, and to be named where it is used.
pub fn extract_lenient(response: &str, n_choices: usize) -> Option<usize> {
    extract(response, n_choices).or_else(|| {
        let reply = response.replace('*', "");
        let reply = reply.trim();
        let (bracket, reply) = (reply.starts_with('('), reply.trim_start_matches('('));
        let mut chars = reply.chars();
        let choice = choice(chars.next()?, n_choices)?;
        let stands_alone = match chars.next() {
            None => true,
            Some(next) => matches!(next, ')' | '\n') || (!bracket && matches!(next, '.' | ':' | ',')),
        };
        stands_alone.then_some(choice)
    })
}

fn choice(letter: char, n_choices: usize) -> Option<usize> {
    let choice = (letter as usize).checked_sub('A' as usize)?;
    (choice < n_choices.min(26)).then_some(choice)
}
