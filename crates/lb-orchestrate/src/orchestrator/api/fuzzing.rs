//! Streamed replies, without a server.

use std::io::BufReader;

use super::anthropic::AnthropicDialect;
use super::dialect::{Dialect, Progress, Stream};
use super::openai::OpenAiDialect;
use super::sse::{Events, Next};

pub(crate) fn stream(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0..128, rest)) => read::<OpenAiDialect>(rest),
        Some((_, rest)) => read::<AnthropicDialect>(rest),
        None => false,
    }
}

fn read<D: Dialect>(bytes: &[u8]) -> bool {
    let mut events = Events::new(BufReader::with_capacity(64, bytes), 1 << 20);
    let mut stream = D::Stream::default();
    while let Ok(Next::Data(data)) = events.next() {
        match stream.event(&data) {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => break,
            Err(_) => return false,
        }
    }
    stream.finish().is_ok_and(|completion| completion.is_some())
}
