//! The operands of a template's operators, found by its grammar, each put into parentheses behind which a filter looks at
//! it: what grows is looked at before it grows.

use super::tokens::{Block, Kind, Token};

/// Brackets within brackets; the language itself takes 150.
const DEPTH: usize = 200;

/// Something to put into the source, and where.
pub(super) type Put = (usize, String);

/// Why a block cannot be guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    Deep,
    Odd,
}

type Span = (usize, usize);
type Result<T> = std::result::Result<T, Unread>;

/// What is to be put into a block.
pub(super) fn guards(block: &Block<'_>, prefix: &str) -> Result<Vec<Put>> {
    let mut reader = Reader { tokens: &block.tokens, prefix, at: 0, depth: 0, puts: Vec::new() };
    if block.statement {
        match reader.next().map(|keyword| keyword.text) {
            Some("for") => reader.loop_head()?,
            Some("set") => reader.targets()?,
            Some("macro") => reader.macro_head()?,
            Some("call") => reader.parameters()?,
            _ => {}
        }
    }
    reader.rest()?;
    Ok(reader.puts)
}

struct Reader<'a, 'b> {
    tokens: &'b [Token<'a>],
    /// What the guards' names begin with.
    prefix: &'b str,
    at: usize,
    depth: usize,
    puts: Vec<Put>,
}

impl<'a> Reader<'a, '_> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
    }

    fn is_sign(&self, signs: &[&str]) -> bool {
        self.peek().is_some_and(|token| signs.iter().any(|sign| token.is_sign(sign)))
    }

    fn is_name(&self, names: &[&str]) -> bool {
        self.peek().is_some_and(|token| names.iter().any(|name| token.is_name(name)))
    }

    fn skip_sign(&mut self, sign: &str) -> bool {
        let is = self.is_sign(&[sign]);
        self.at += usize::from(is);
        is
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let is = self.is_name(&[name]);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        if self.skip_sign(sign) { Ok(()) } else { Err(Unread::Odd) }
    }

    /// Where the last token ends.
    fn end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |at| self.tokens[at].end())
    }

    fn start(&self) -> Result<usize> {
        self.peek().map(|token| token.start).ok_or(Unread::Odd)
    }

    fn guard(&mut self, (start, end): Span, filter: &str) {
        self.puts.push((start, "(".to_owned()));
        self.puts.push((end, format!(")|{}{filter}", self.prefix)));
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Unread::Deep);
        }
        let done = read(self)?;
        self.depth -= 1;
        Ok(done)
    }

    /// `for` targets `in` what.
    fn loop_head(&mut self) -> Result<()> {
        while !self.skip_name("in") {
            if self.next().is_none() {
                return Ok(());
            }
        }
        let span = self.or()?;
        self.guard(span, "loop");
        self.skip_name("if");
        Ok(())
    }

    /// What is set, where something is. What an attribute is set to may hold what holds it.
    fn targets(&mut self) -> Result<()> {
        let is_set = |token: &Token<'_>| token.is_sign("=");
        let Some(at) = self.tokens[self.at..].iter().position(is_set) else { return Ok(()) };
        let attribute = self.tokens[self.at..self.at + at].iter().any(|token| token.is_sign("."));
        self.at += at + 1;
        while attribute && self.peek().is_some() {
            let span = self.expression()?;
            self.guard(span, "item");
            if !self.skip_sign(",") {
                break;
            }
        }
        Ok(())
    }

    fn macro_head(&mut self) -> Result<()> {
        self.next();
        self.parameters()
    }

    /// Names with their defaults, if there are any.
    fn parameters(&mut self) -> Result<()> {
        if !self.skip_sign("(") {
            return Ok(());
        }
        while !self.skip_sign(")") {
            if self.skip_sign("=") {
                self.expression()?;
            } else if self.next().is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Expressions with what a statement has between them.
    fn rest(&mut self) -> Result<()> {
        while let Some(token) = self.peek() {
            if token.kind != Kind::Sign || ["(", "[", "{", "-"].contains(&token.text) {
                self.expression()?;
            } else if ["+", "*", "~"].contains(&token.text) {
                return Err(Unread::Odd);
            } else {
                self.at += 1;
            }
        }
        Ok(())
    }

    fn expression(&mut self) -> Result<Span> {
        self.nested(Self::conditional)
    }

    fn conditional(&mut self) -> Result<Span> {
        let mut span = self.or()?;
        while self.skip_name("if") {
            span.1 = self.or()?.1;
            if self.skip_name("else") {
                span.1 = self.expression()?.1;
            }
        }
        Ok(span)
    }

    fn or(&mut self) -> Result<Span> {
        let mut span = self.and()?;
        while self.skip_name("or") {
            span.1 = self.and()?.1;
        }
        Ok(span)
    }

    fn and(&mut self) -> Result<Span> {
        let mut span = self.not()?;
        while self.skip_name("and") {
            span.1 = self.not()?.1;
        }
        Ok(span)
    }

    fn not(&mut self) -> Result<Span> {
        let start = self.start()?;
        while self.skip_name("not") {}
        let span = self.comparison()?;
        Ok((start, span.1))
    }

    /// Values that contain one another are compared for ever.
    fn comparison(&mut self) -> Result<Span> {
        let mut left = self.sum()?;
        let (start, mut compared) = (left.0, false);
        loop {
            let not_in = self.is_name(&["not"])
                && self.tokens.get(self.at + 1).is_some_and(|token| token.is_name("in"));
            if not_in {
                self.at += 2;
            } else if self.is_sign(&["==", "!=", "<", "<=", ">", ">="]) || self.is_name(&["in"]) {
                self.at += 1;
            } else {
                if compared {
                    self.guard(left, "item");
                }
                return Ok((start, left.1));
            }
            self.guard(left, "item");
            (left, compared) = (self.sum()?, true);
        }
    }

    fn sum(&mut self) -> Result<Span> {
        let (spans, signs) = self.chain(&["+", "-"], Self::joined)?;
        if signs.contains(&"+") {
            for span in &spans {
                self.guard(*span, "sum");
            }
        }
        Ok(whole(&spans))
    }

    fn joined(&mut self) -> Result<Span> {
        let (spans, signs) = self.chain(&["~"], Self::product)?;
        if !signs.is_empty() {
            for span in &spans {
                self.guard(*span, "joined");
            }
        }
        Ok(whole(&spans))
    }

    fn product(&mut self) -> Result<Span> {
        let (spans, signs) = self.chain(&["*", "/", "//", "%"], Self::power)?;
        if signs.contains(&"*") {
            for (index, span) in spans.iter().enumerate() {
                let times = index.checked_sub(1).map(|before| signs[before] == "*");
                let how = times.map_or("first", |times| if times { "times" } else { "other" });
                self.guard(*span, &format!("factor('{how}',{})", index + 1 == spans.len()));
            }
        }
        Ok(whole(&spans))
    }

    fn power(&mut self) -> Result<Span> {
        Ok(whole(&self.chain(&["**"], Self::filtered)?.0))
    }

    /// Operands with signs of one rank between them, and those signs.
    fn chain(
        &mut self,
        signs: &[&'static str],
        operand: fn(&mut Self) -> Result<Span>,
    ) -> Result<(Vec<Span>, Vec<&'static str>)> {
        let (mut spans, mut between) = (vec![operand(self)?], Vec::new());
        while let Some(sign) = signs.iter().find(|sign| self.is_sign(&[sign])) {
            self.at += 1;
            between.push(*sign);
            spans.push(operand(self)?);
        }
        Ok((spans, between))
    }

    /// A value with its filters and tests.
    fn filtered(&mut self) -> Result<Span> {
        let mut span = self.value()?;
        loop {
            if self.skip_sign("|") {
                self.name()?;
                if self.is_sign(&["("]) {
                    self.arguments()?;
                }
            } else if self.is_name(&["is"]) {
                self.guard(span, "item");
                self.at += 1;
                self.skip_name("not");
                self.name()?;
                let begins = self.peek().is_some_and(|token| {
                    token.kind != Kind::Sign || ["-", "+", "[", "{"].contains(&token.text)
                });
                if self.is_sign(&["("]) {
                    self.arguments()?;
                } else if begins && !self.is_name(&["and", "or", "else", "is"]) {
                    self.value()?;
                }
            } else {
                return Ok(span);
            }
            span.1 = self.end();
        }
    }

    /// A filter's or test's name, which may have dots.
    fn name(&mut self) -> Result<()> {
        loop {
            match self.next() {
                Some(token) if token.kind == Kind::Name => {}
                _ => return Err(Unread::Odd),
            }
            if !self.skip_sign(".") {
                return Ok(());
            }
        }
    }

    /// A value with its attributes, items and calls.
    fn value(&mut self) -> Result<Span> {
        let start = self.start()?;
        if self.skip_sign("-") {
            let span = self.nested(Self::value)?;
            return Ok((start, span.1));
        }
        self.nested(Self::primary)?;
        loop {
            if self.skip_sign(".") {
                match self.next() {
                    Some(token) if matches!(token.kind, Kind::Name | Kind::Number) => {}
                    _ => return Err(Unread::Odd),
                }
            } else if self.is_sign(&["["]) {
                if self.subscript()? {
                    // A part of a text is a copy. Two pairs: more may follow.
                    self.puts.push((start, "((".to_owned()));
                    self.puts.push((self.end(), format!(")|{}seen)", self.prefix)));
                }
            } else if self.is_sign(&["("]) {
                self.arguments()?;
            } else {
                return Ok((start, self.end()));
            }
        }
    }

    /// `[...]`; whether it is a slice.
    fn subscript(&mut self) -> Result<bool> {
        self.expect("[")?;
        let mut slice = false;
        loop {
            if self.skip_sign("]") {
                return Ok(slice);
            }
            if self.skip_sign(":") {
                slice = true;
            } else {
                self.expression()?;
            }
        }
    }

    fn arguments(&mut self) -> Result<()> {
        self.expect("(")?;
        loop {
            if self.skip_sign(")") {
                return Ok(());
            }
            if self.skip_sign(",") || self.skip_sign("*") || self.skip_sign("**") {
                continue;
            }
            let mut span = self.expression()?;
            if self.skip_sign("=") {
                span = self.expression()?;
            }
            self.guard(span, "item");
        }
    }

    fn primary(&mut self) -> Result<()> {
        let token = self.next().ok_or(Unread::Odd)?;
        match (token.kind, token.text) {
            (Kind::Name | Kind::Number, _) => Ok(()),
            (Kind::Text, _) => {
                while self.peek().is_some_and(|token| token.kind == Kind::Text) {
                    self.at += 1;
                }
                Ok(())
            }
            (_, "(") => self.items(")"),
            (_, "[") => self.items("]"),
            (_, "{") => self.items("}"),
            _ => Err(Unread::Odd),
        }
    }

    /// What stands in brackets, up to `close`.
    fn items(&mut self, close: &str) -> Result<()> {
        let first = self.at;
        loop {
            if self.skip_sign(close) {
                return Ok(());
            }
            if self.skip_sign(",") || self.skip_sign(":") {
                continue;
            }
            let span = self.expression()?;
            // Parentheses around one expression hold no item.
            let alone = close == ")" && self.is_sign(&[")"]) && self.tokens[first].start == span.0;
            if !alone {
                self.guard(span, "item");
            }
        }
    }
}

fn whole(spans: &[Span]) -> Span {
    (spans[0].0, spans[spans.len() - 1].1)
}
