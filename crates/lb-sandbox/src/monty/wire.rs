//! The pipes of the process that runs code, from its inside.

use std::io::{BufWriter, Stdout};
use std::sync::mpsc::Receiver;

use crate::protocol::{Event, Frame, MAX_MESSAGE, Request, encode, write_frame};

/// The host is gone, or does not keep to the protocol: the process has nothing left to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostGone;

/// Both directions.
#[derive(Debug)]
pub(super) struct Wire {
    from_host: Receiver<Frame>,
    to_host: BufWriter<Stdout>,
}

impl Wire {
    pub(super) fn new(from_host: Receiver<Frame>) -> Self {
        Self { from_host, to_host: BufWriter::new(std::io::stdout()) }
    }

    pub(super) fn request(&self) -> Result<Request, HostGone> {
        match self.from_host.recv() {
            Ok(Frame::Message(content)) => serde_json::from_slice(&content).map_err(|_| HostGone),
            Ok(Frame::Bytes(_)) | Err(_) => Err(HostGone),
        }
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, HostGone> {
        match self.from_host.recv() {
            Ok(Frame::Bytes(bytes)) => Ok(bytes),
            Ok(Frame::Message(_)) | Err(_) => Err(HostGone),
        }
    }

    /// Sends an event; `Ok(false)` where it is longer than a message may be, and nothing was sent.
    pub(super) fn send(&mut self, event: &Event) -> Result<bool, HostGone> {
        let Some(content) = encode(event) else { return Ok(false) };
        self.write(&Frame::Message(content))?;
        Ok(true)
    }

    pub(super) fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<(), HostGone> {
        self.write(&Frame::Bytes(bytes))
    }

    fn write(&mut self, frame: &Frame) -> Result<(), HostGone> {
        write_frame(&mut self.to_host, frame).map_err(|_| HostGone)
    }
}

/// A text that fits a message whatever its characters become in JSON, or a text that says that it did not.
pub(super) fn fitting(text: String) -> String {
    if text.len() <= MAX_MESSAGE / 8 {
        return text;
    }
    format!("Error: a text of {} bytes, more than the 8 MiB that leave a session", text.len())
}
