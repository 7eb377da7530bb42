//! JSON read value by value: never more of a file in memory than one item.

use std::io::{BufRead, ErrorKind};

use crate::fault::{Fault, FileFault};

/// How values lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[value, value]`.
    Array,
    /// `{"key": value, "key": value}`, one item per key.
    Object,
    /// One value a line.
    Lines,
    /// Values one behind the other, each over as many lines as it takes.
    Values,
}

/// One value as it stands in the file.
#[derive(Debug)]
pub(crate) struct Raw {
    /// The line on which it begins, from 1.
    pub(crate) line: usize,
    /// Its key in an object.
    pub(crate) key: Option<String>,
    /// Its bytes, or why there are none.
    pub(crate) bytes: Result<Vec<u8>, Fault>,
    /// The beginning of a value that is too large or cut off, which often has its id.
    pub(crate) head: Vec<u8>,
}

/// Bytes of [`Raw::head`].
const HEAD: usize = 4096;

/// What is kept of a value: all of it up to a limit, its beginning beyond.
struct KeptLine {
    bytes: Vec<u8>,
    limit: usize,
    large: bool,
}

impl KeptLine {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, large: false }
    }

    fn push(&mut self, more: &[u8]) {
        self.large |= self.bytes.len() + more.len() > self.limit;
        if self.large {
            let left = HEAD.saturating_sub(self.bytes.len()).min(more.len());
            self.bytes.extend_from_slice(&more[..left]);
            self.bytes.truncate(HEAD);
            self.bytes.shrink_to(HEAD);
        } else {
            self.bytes.extend_from_slice(more);
        }
    }

    fn raw(self, line: usize, key: Option<String>) -> Raw {
        if self.large {
            return Raw { line, key, bytes: Err(Fault::TooLarge { limit: self.limit }), head: self.bytes };
        }
        Raw { line, key, bytes: Ok(self.bytes), head: Vec::new() }
    }
}

/// What ends the reading of a file.
#[derive(Debug)]
pub(crate) enum Stop {
    Io(std::io::Error),
    File(FileFault),
}

/// Splits a stream into values without parsing them.
pub(crate) struct Splitter<R> {
    input: R,
    layout: Layout,
    limit: usize,
    line: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// Behind `[` or `{`.
    First,
    /// Behind a value.
    Next,
    Done,
}

impl<R: BufRead> Splitter<R> {
    /// Values larger than `limit` bytes are passed over and reported.
    pub(crate) fn new(input: R, layout: Layout, limit: usize) -> Self {
        Self { input, layout, limit, line: 1, state: State::Start }
    }

    fn peek(&mut self) -> Result<Option<u8>, Stop> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Stop::Io(e)),
            }
        }
    }

    fn skip(&mut self, byte: u8) {
        self.line += usize::from(byte == b'\n');
        self.input.consume(1);
    }

    /// The next byte that is no white space, which stays in the input.
    fn solid(&mut self) -> Result<Option<u8>, Stop> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.skip(byte);
        }
        Ok(None)
    }

    fn wrong(&self, expected: &'static str) -> Stop {
        Stop::File(FileFault::Structure { line: self.line, expected })
    }

    fn expect(&mut self, wanted: u8, expected: &'static str) -> Result<(), Stop> {
        match self.solid()? {
            Some(byte) if byte == wanted => {
                self.skip(byte);
                Ok(())
            }
            _ => Err(self.wrong(expected)),
        }
    }

    fn start(&mut self) -> Result<(), Stop> {
        for mark in [0xEF, 0xBB, 0xBF] {
            if self.peek()? == Some(mark) {
                self.skip(mark);
            }
        }
        match self.layout {
            Layout::Array => self.expect(b'[', "`[`"),
            Layout::Object => self.expect(b'{', "`{`"),
            Layout::Lines | Layout::Values => Ok(()),
        }
    }

    /// Consumes up to the next value; false at the end of the container.
    fn advance(&mut self) -> Result<bool, Stop> {
        if self.layout == Layout::Values {
            return Ok(self.solid()?.is_some());
        }
        let (close, expected) = match self.layout {
            Layout::Array => (b']', "`,` or `]`"),
            _ => (b'}', "`,` or `}`"),
        };
        let Some(byte) = self.solid()? else { return Err(self.wrong(expected)) };
        if byte == close {
            self.skip(byte);
            return match self.solid()? {
                None => Ok(false),
                Some(_) => Err(self.wrong("the end of the file")),
            };
        }
        if self.state == State::Next {
            self.expect(b',', expected)?;
            if self.solid()? == Some(close) {
                return Err(self.wrong("a value behind `,`"));
            }
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<String, Stop> {
        if self.solid()? != Some(b'"') {
            return Err(self.wrong("a key in quotes"));
        }
        let key = self.value(self.line, None)?.bytes.map_err(|_| self.wrong("a short key"))?;
        let key = serde_json::from_slice(&key).map_err(|_| self.wrong("a key in quotes"))?;
        self.expect(b':', "`:`")?;
        Ok(key)
    }

    /// The bytes of one value, whose nesting and strings are followed but not checked.
    fn value(&mut self, line: usize, key: Option<String>) -> Result<Raw, Stop> {
        let mut scan = Scan::default();
        let mut kept = KeptLine::new(self.limit);
        loop {
            let bytes = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Stop::Io(e)),
            };
            if bytes.is_empty() {
                let mut head = kept.bytes;
                head.truncate(HEAD);
                return Ok(Raw { line, key, bytes: Err(Fault::Truncated), head });
            }
            let (used, ended) = scan.run(bytes);
            kept.push(&bytes[..used]);
            self.line += bytes[..used].split(|b| *b == b'\n').skip(1).count();
            self.input.consume(used);
            if ended {
                return Ok(kept.raw(line, key));
            }
        }
    }

    /// One line without its end; `None` at the end of the file.
    fn next_line(&mut self) -> Result<Option<Raw>, Stop> {
        loop {
            let line = self.line;
            let (mut kept, mut ended, mut some) = (KeptLine::new(self.limit), false, false);
            while !ended {
                let bytes = match self.input.fill_buf() {
                    Ok(bytes) => bytes,
                    Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                    Err(e) => return Err(Stop::Io(e)),
                };
                if bytes.is_empty() {
                    break;
                }
                some = true;
                let end = bytes.iter().position(|b| *b == b'\n');
                let used = end.unwrap_or(bytes.len());
                kept.push(&bytes[..used]);
                ended = end.is_some();
                self.input.consume(used + usize::from(ended));
            }
            self.line += 1;
            if !some {
                return Ok(None);
            }
            if kept.large || !kept.bytes.trim_ascii().is_empty() {
                return Ok(Some(kept.raw(line, None)));
            }
        }
    }

    fn step(&mut self) -> Result<Option<Raw>, Stop> {
        if self.state == State::Start {
            self.start()?;
            self.state = State::First;
        }
        if self.layout == Layout::Lines {
            return self.next_line();
        }
        if !self.advance()? {
            return Ok(None);
        }
        self.state = State::Next;
        let key = if self.layout == Layout::Object { Some(self.key()?) } else { None };
        self.solid()?;
        let line = self.line;
        let raw = self.value(line, key)?;
        // What begins no value would be found here again and again.
        if self.layout == Layout::Values && raw.bytes.as_ref().is_ok_and(Vec::is_empty) {
            return Err(self.wrong("a value"));
        }
        Ok(Some(raw))
    }
}

impl<R: BufRead> Iterator for Splitter<R> {
    type Item = Result<Raw, Stop>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let step = self.step().transpose();
        let truncated = matches!(&step, Some(Ok(Raw { bytes: Err(Fault::Truncated), .. })));
        if truncated || matches!(step, None | Some(Err(_))) {
            self.state = State::Done;
        }
        step
    }
}

/// Where a scan stands within a value.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Scan {
    /// How many bytes belong to the value, and whether it ends there. A number or a word ends before what follows it.
    fn run(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (i, &byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return (i + 1, true);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b',' | b':' | b']' | b'}' if self.depth == 0 => return (i, true),
                _ if self.depth == 0 && self.begun && byte.is_ascii_whitespace() => return (i, true),
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (i + 1, true);
                    }
                }
                _ => {}
            }
            self.begun = true;
        }
        (bytes.len(), false)
    }
}
