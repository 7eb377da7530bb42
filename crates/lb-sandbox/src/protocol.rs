//! What a host and the process that runs code say to each other: frames over pipes, JSON or plain bytes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::{AnswerCell, Fault, HostCall, ReplLimits};

/// Bytes of one message. Longer texts are refused where they are made.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// The first byte of a frame; four bytes of length (eight for bytes), big end first, and the content follow.
const MESSAGE: u8 = b'J';
const BYTES: u8 = b'B';

/// From the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// The first one.
    Start(ReplLimits),
    /// Answered by [`Event::Done`].
    SetText { name: String, text: String },
    /// With the frame of bytes that follows, what an [`Event::State`] came with. Answered by [`Event::Done`].
    Restore { names: Vec<String> },
    /// Answered by [`Event::State`] without a snapshot.
    Look,
    /// Answered by any number of [`Event::Call`] and [`Event::Answer`], [`Event::Ran`], and, unless the session is
    /// undefined after it, [`Event::State`].
    Execute { code: String },
    /// To a call.
    Reply { texts: Vec<String> },
    /// To a call: the block ends here.
    Stop { fault: Fault, reason: String },
    /// Answered by [`Event::Variable`].
    Variable { name: String },
}

/// From the process that runs code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Ready,
    Done,
    Call(HostCall),
    /// `answer["ready"]` was set; this is the content at that instant.
    Answer {
        content: String,
    },
    Ran {
        stdout: String,
        stderr: String,
        fault: Option<Fault>,
        seconds: f64,
    },
    State(State),
    Variable {
        text: Option<String>,
    },
}

/// A session between blocks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) locals: BTreeMap<String, String>,
    pub(crate) answer: AnswerCell,
    /// A line for the author of the code, where the session put something right.
    #[serde(default)]
    pub(crate) note: String,
    /// Names that a restored session is to look for.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// Whether a frame of bytes follows from which the session can be restored.
    #[serde(default)]
    pub(crate) snapshot: bool,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Message(Vec<u8>),
    Bytes(Vec<u8>),
}

/// A message as the bytes of a frame's content, `None` where they are more than a frame holds.
pub(crate) fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    let bytes = serde_json::to_vec(message).ok()?;
    (bytes.len() <= MAX_MESSAGE).then_some(bytes)
}

/// Writes a frame and sends it off.
///
/// # Errors
/// Those of the pipe.
pub(crate) fn write_frame(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let content = match frame {
        Frame::Message(content) => {
            to.write_all(&[MESSAGE])?;
            to.write_all(
                &u32::try_from(content.len()).map_err(|_| too_long(content.len() as u64))?.to_be_bytes(),
            )?;
            content
        }
        Frame::Bytes(content) => {
            to.write_all(&[BYTES])?;
            to.write_all(&(content.len() as u64).to_be_bytes())?;
            content
        }
    };
    to.write_all(content)?;
    to.flush()
}

/// Reads a frame, `None` at the end. Memory grows with what arrives, not with what a frame claims to hold.
///
/// # Errors
/// Those of the pipe; `InvalidData` for what is no frame or longer than [`MAX_MESSAGE`] or `max_bytes`;
/// `UnexpectedEof` for a frame that is cut short.
pub(crate) fn read_frame(from: &mut impl Read, max_bytes: u64) -> io::Result<Option<Frame>> {
    let mut tag = [0_u8];
    if from.read(&mut tag)? == 0 {
        return Ok(None);
    }
    let (len, max) = match tag[0] {
        MESSAGE => {
            let mut len = [0; 4];
            from.read_exact(&mut len)?;
            (u64::from(u32::from_be_bytes(len)), MAX_MESSAGE as u64)
        }
        BYTES => {
            let mut len = [0; 8];
            from.read_exact(&mut len)?;
            (u64::from_be_bytes(len), max_bytes)
        }
        other => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no frame begins with byte {other}"),
            ));
        }
    };
    if len > max {
        return Err(too_long(len));
    }
    let mut content = Vec::new();
    from.take(len).read_to_end(&mut content)?;
    if content.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(if tag[0] == MESSAGE { Frame::Message(content) } else { Frame::Bytes(content) }))
}

fn too_long(len: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes"))
}
