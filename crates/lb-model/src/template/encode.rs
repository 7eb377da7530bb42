//! Which control tokens of a rendered conversation are the template's own.
//!
//! The template is rendered as it is, and once more with every control token in its source (and among the special
//! tokens) replaced by a private-use character that occurs nowhere else. If putting the tokens back gives the first
//! text, every such character marks a control token that the template wrote, and every other look-alike in the text
//! came from a message. Where a template reads messages by a token (Qwen3 cuts an answer at `</think>`), the second
//! text differs; then the places in the source are replaced one by one, and those that make a difference stay
//! as they are: they read and do not write.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ChatTemplate, Message, RenderOptions, SpecialTokens};
use crate::{Error, Result};

/// A stretch of a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderedPiece {
    /// A control token, written by the template.
    Control(String),
    /// Plain text of template and messages. A control token that is spelled out in it is not meant as one.
    Text(String),
}

impl std::fmt::Display for RenderedPiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Control(text) | Self::Text(text) => f.write_str(text),
        }
    }
}

/// Supplementary private-use characters.
const STAND_INS: std::ops::RangeInclusive<u32> = 0xF_0000..=0xF_FFFD;

/// A control token written in the template's source or as a special token's value.
#[derive(Debug, Clone)]
enum Place {
    Source { start: usize, token: String },
    Special { name: String, token: String },
}

impl Place {
    fn token(&self) -> &str {
        match self {
            Self::Source { token, .. } | Self::Special { token, .. } => token,
        }
    }
}

/// One conversation, rendered again and again.
struct Probe<'a> {
    template: &'a ChatTemplate,
    messages: Vec<Value>,
    options: &'a RenderOptions,
    stand_ins: HashMap<String, char>,
    text: String,
}

impl ChatTemplate {
    /// Renders a conversation and tells the template's control tokens from text. `control` are the tokenizer's
    /// [`added_tokens`](crate::Tokenizer::added_tokens).
    ///
    /// Joined, the pieces are what [`render`](Self::render) gives. A token counts as the template's when it stands
    /// in the template's source, or is the value of a special token such as `bos_token`, and is only written there,
    /// not compared with; everything else is text. Tokens of white space alone always are text.
    ///
    /// # Errors
    /// Those of [`render`](Self::render); [`Error::Template`] when the text holds a control token that neither the
    /// template nor a message has as a whole, which means that the template makes tokens out of pieces.
    pub fn render_pieces(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        control: &[String],
    ) -> Result<Vec<RenderedPiece>> {
        let control: Vec<&str> =
            control.iter().map(String::as_str).filter(|token| !token.trim().is_empty()).collect();
        let messages = self.prepare(messages, options)?;
        let text = super::render(&self.source, &self.special, &messages, options)?;
        let places = self.places(&control);
        let stand_ins = stand_ins(&places, self, &messages, options)?;
        let probe = Probe { template: self, messages, options, stand_ins, text };
        let marked = probe.marked(&places);
        let pieces = probe.pieces(&marked);
        probe.check_text(&pieces, &control)?;
        Ok(pieces)
    }

    /// Where the source and the special tokens hold control tokens, the longest at each place.
    fn places(&self, control: &[&str]) -> Vec<Place> {
        let mut longest_first: Vec<&str> =
            control.iter().copied().filter(|token| self.source.contains(*token)).collect();
        longest_first.sort_by_key(|token| std::cmp::Reverse(token.len()));
        let mut places = Vec::new();
        let mut start = 0;
        while let Some(c) = self.source[start..].chars().next() {
            match longest_first.iter().find(|token| self.source[start..].starts_with(**token)) {
                Some(token) => {
                    places.push(Place::Source { start, token: (*token).to_string() });
                    start += token.len();
                }
                None => start += c.len_utf8(),
            }
        }
        let special = self.special.iter().filter(|(_, value)| control.contains(&value.as_str()));
        places
            .extend(special.map(|(name, token)| Place::Special { name: name.clone(), token: token.clone() }));
        places
    }
}

/// Places that are tried one by one; real templates have some tens in all.
const TRIES: usize = 1_000;
/// How long that may take.
const TIME: Duration = Duration::from_secs(20);

impl Probe<'_> {
    /// The text with as many places marked as can be without a change to what is rendered.
    fn marked(&self, places: &[Place]) -> String {
        if let Some(marked) = self.render_marked(places) {
            return marked;
        }
        let (mut best, mut kept) = (self.text.clone(), Vec::new());
        let (mut tries, until) = (TRIES, Instant::now() + TIME);
        let tokens: BTreeSet<&str> = places.iter().map(Place::token).collect();
        for token in tokens {
            let places: Vec<&Place> = places.iter().filter(|place| place.token() == token).collect();
            let all: Vec<Place> = kept.iter().chain(places.iter().copied()).cloned().collect();
            if let Some(marked) = self.render_marked(&all) {
                (best, kept) = (marked, all);
                continue;
            }
            for place in places {
                tries = tries.saturating_sub(1);
                if tries == 0 || Instant::now() > until {
                    return best;
                }
                let one_more: Vec<Place> = kept.iter().chain([place]).cloned().collect();
                if let Some(marked) = self.render_marked(&one_more) {
                    (best, kept) = (marked, one_more);
                }
            }
        }
        best
    }

    /// The text with `places` marked, unless marking them changes it.
    fn render_marked(&self, places: &[Place]) -> Option<String> {
        let (source, special) = self.substituted(places);
        let marked = super::render(&source, &special, &self.messages, self.options).ok()?;
        (self.unmarked(&marked) == self.text).then_some(marked)
    }

    fn substituted(&self, places: &[Place]) -> (String, SpecialTokens) {
        let mut special = self.template.special.clone();
        let mut in_source: Vec<(usize, &str)> = Vec::new();
        for place in places {
            match place {
                Place::Source { start, token } => in_source.push((*start, token)),
                Place::Special { name, token } => {
                    special.insert(name.clone(), self.stand_ins[token].to_string());
                }
            }
        }
        in_source.sort_unstable();
        let (mut source, mut end) = (String::new(), 0);
        for (start, token) in in_source {
            source.push_str(&self.template.source[end..start]);
            source.push(self.stand_ins[token]);
            end = start + token.len();
        }
        source.push_str(&self.template.source[end..]);
        (source, special)
    }

    fn tokens(&self) -> HashMap<char, &str> {
        self.stand_ins.iter().map(|(token, c)| (*c, token.as_str())).collect()
    }

    fn unmarked(&self, marked: &str) -> String {
        let tokens = self.tokens();
        let mut text = String::with_capacity(self.text.len());
        for c in marked.chars() {
            match tokens.get(&c) {
                Some(token) => text.push_str(token),
                None => text.push(c),
            }
        }
        text
    }

    fn pieces(&self, marked: &str) -> Vec<RenderedPiece> {
        let tokens = self.tokens();
        let mut pieces = Vec::new();
        let mut text = String::new();
        for c in marked.chars() {
            let Some(token) = tokens.get(&c) else {
                text.push(c);
                continue;
            };
            if !text.is_empty() {
                pieces.push(RenderedPiece::Text(std::mem::take(&mut text)));
            }
            pieces.push(RenderedPiece::Control((*token).to_string()));
        }
        if !text.is_empty() {
            pieces.push(RenderedPiece::Text(text));
        }
        pieces
    }

    /// Refuses control tokens that turn up in plain text though nobody wrote them there.
    fn check_text(&self, pieces: &[RenderedPiece], control: &[&str]) -> Result<()> {
        let said = strings(&self.messages, self.options);
        for piece in pieces {
            let RenderedPiece::Text(text) = piece else { continue };
            let found = control
                .iter()
                .find(|token| text.contains(**token) && !said.iter().any(|string| string.contains(**token)));
            if let Some(token) = found {
                let reason = format!("it makes the control token `{token}` out of pieces");
                return Err(Error::Template { reason });
            }
        }
        Ok(())
    }
}

/// One character for each token, none of which occurs in the template or the conversation.
fn stand_ins(
    places: &[Place],
    template: &ChatTemplate,
    messages: &[Value],
    options: &RenderOptions,
) -> Result<HashMap<String, char>> {
    let said = strings(messages, options);
    let all = said.into_iter().chain([template.source.as_str()]);
    let special = template.special.values().map(String::as_str);
    let taken: BTreeSet<char> =
        all.chain(special).flat_map(str::chars).filter(|c| STAND_INS.contains(&u32::from(*c))).collect();
    let mut free = STAND_INS.filter_map(char::from_u32).filter(|c| !taken.contains(c));
    let tokens: BTreeSet<&str> = places.iter().map(Place::token).collect();
    tokens
        .into_iter()
        .map(|token| {
            let c = free.next().ok_or_else(|| Error::Template {
                reason: "the conversation uses up all private-use characters".to_string(),
            })?;
            Ok((token.to_string(), c))
        })
        .collect()
}

/// Every string that a conversation brings along, keys included.
fn strings<'a>(messages: &'a [Value], options: &'a RenderOptions) -> Vec<&'a str> {
    fn collect<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => out.push(text),
            Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
            Value::Object(map) => map.iter().for_each(|(key, item)| {
                out.push(key);
                collect(item, out);
            }),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for value in messages.iter().chain(options.tools.iter().flatten()) {
        collect(value, &mut out);
    }
    for (key, value) in &options.variables {
        out.push(key);
        collect(value, &mut out);
    }
    out
}
