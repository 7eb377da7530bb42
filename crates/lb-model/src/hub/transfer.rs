//! One file from the hub into a blob of the cache: resumed, checked, renamed when whole.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use ring::digest::{Context, SHA256};
use ureq::Body;
use ureq::http::Response;

use super::Progress;
use super::client::{Client, Head, text};
use super::failure::{Failure, Place, failure_of};
use super::layout::create_parent;
use crate::{Error, Result};

/// Config and tokenizer files are read into memory; the largest tokenizers have 40 MB.
const MAX_TEXT: u64 = 128 << 20;
/// A file of unknown size ends here at the latest.
const MAX_UNKNOWN: u64 = MAX_TEXT;
/// Fewer bytes than this in one timeout count as silence.
const MIN_BYTES: u64 = 64 << 10;
/// A broken connection is taken up again within the same call when it brought at least this much.
const WORTH_RESUMING: u64 = 1 << 20;
const BUFFER: usize = 64 << 10;

/// Fetches what `head` describes through `part` into `blob`.
pub(super) fn fetch(
    client: &Client,
    head: &Head,
    (part, blob): (&Path, &Path),
    place: &Place,
    progress: &dyn Fn(Progress<'_>),
) -> Result<()> {
    let limit = limit(place, head.size);
    if let Some(size) = head.size.filter(|&size| size > limit) {
        return Err(place.error(Failure::TooLarge { size, limit }));
    }
    let mut part = Part::open(part, place)?;
    if head.sha256().is_none() {
        // Without a digest nothing could tell whether what lies there is a beginning of this file.
        part.restart(place)?;
    }
    let transfer = Transfer { client, head, place, progress, limit };
    let kept = part.len;
    let mut done = transfer.complete(&mut part).and_then(|()| part.check(head, place));
    if kept > 0 && done.as_ref().is_err_and(is_mismatch) {
        // What lay there was not a beginning of this file.
        part.restart(place)?;
        done = transfer.complete(&mut part).and_then(|()| part.check(head, place));
    }
    match done {
        Ok(()) => part.finish(blob, place),
        Err(error) => {
            if is_mismatch(&error) || matches!(failure_of(&error), Some(Failure::TooLarge { .. })) {
                let _ = fs::remove_file(&part.path);
            }
            Err(error)
        }
    }
}

fn is_broken(error: &Error) -> bool {
    matches!(failure_of(error), Some(Failure::Cut { .. } | Failure::TimedOut { .. }))
}

fn is_mismatch(error: &Error) -> bool {
    matches!(failure_of(error), Some(Failure::Mismatch { .. }))
}

/// The most bytes a file may have.
fn limit(place: &Place, size: Option<u64>) -> u64 {
    let is_text = [".json", ".jinja", ".txt", ".md"].iter().any(|end| place.file.ends_with(end));
    match size {
        // The files of a data set are streamed from disk; LongBench v2 is one JSON file of 465 MB.
        _ if is_text && !place.repo.is_dataset() => MAX_TEXT,
        Some(_) => u64::MAX,
        None => MAX_UNKNOWN,
    }
}

struct Transfer<'t> {
    client: &'t Client,
    head: &'t Head,
    place: &'t Place,
    progress: &'t dyn Fn(Progress<'_>),
    limit: u64,
}

impl Transfer<'_> {
    /// Requests until the file is whole: at once where a broken one brought something, else after a pause.
    fn complete(&self, part: &mut Part) -> Result<()> {
        if self.head.size.is_some_and(|size| part.len > size) {
            part.restart(self.place)?;
        }
        self.report(part.len);
        let mut fruitless = 0;
        loop {
            if self.head.size == Some(part.len) {
                return Ok(());
            }
            let start = part.len;
            let Err(error) = self.once(part) else { return Ok(()) };
            if part.len >= start.saturating_add(WORTH_RESUMING) && is_broken(&error) {
                fruitless = 0;
                continue;
            }
            fruitless += 1;
            let cut = matches!(failure_of(&error), Some(Failure::Cut { .. }));
            let patience = self.client.patience();
            if !cut || !patience.wait(&self.place.file, "the connection ended early", None, fruitless)? {
                return Err(error);
            }
            if self.head.sha256().is_none() {
                part.restart(self.place)?;
            }
        }
    }

    fn once(&self, part: &mut Part) -> Result<()> {
        let mut reply = self.client.get(self.head, part.len, self.place)?;
        if reply.status() == 416 {
            part.restart(self.place)?;
            reply = self.client.get(self.head, 0, self.place)?;
        }
        let size = self.announced(&reply, part)?;
        self.copy(reply, size, part)
    }

    /// The size of the file by this reply; starts over where the server sends all of it again.
    fn announced(&self, reply: &Response<Body>, part: &mut Part) -> Result<Option<u64>> {
        let bad = |header| self.place.error(Failure::BadReply { header });
        let (size, header) = match reply.status().as_u16() {
            206 => {
                let range = text(reply.headers(), "content-range").and_then(parse_range);
                let (first, total) = range.ok_or_else(|| bad("content-range"))?;
                if first != part.len {
                    return Err(bad("content-range"));
                }
                (total, "content-range")
            }
            200 => {
                part.restart(self.place)?;
                let length = text(reply.headers(), "content-length");
                (length.map(str::parse).transpose().map_err(|_| bad("content-length"))?, "content-length")
            }
            status => return Err(self.place.error(Failure::status(status))),
        };
        match (self.head.size, size) {
            (Some(expected), Some(size)) if expected != size => Err(bad(header)),
            (None, Some(size)) if size > self.limit => {
                Err(self.place.error(Failure::TooLarge { size, limit: self.limit }))
            }
            (expected, size) => Ok(expected.or(size)),
        }
    }

    fn copy(&self, reply: Response<Body>, size: Option<u64>, part: &mut Part) -> Result<()> {
        let mut body = reply.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        let (mut since, mut mark) = (Instant::now(), part.len);
        while size != Some(part.len) {
            let wanted = size.map_or(BUFFER as u64, |size| (size - part.len).min(BUFFER as u64));
            let read = match body.read(&mut buffer[..wanted as usize]) {
                Ok(0) if size.is_none() => return Ok(()),
                Ok(0) => return Err(self.cut(size, part)),
                Ok(read) => read,
                Err(e) if is_timeout(&e) => return Err(self.slow()),
                Err(_) => return Err(self.cut(size, part)),
            };
            part.append(&buffer[..read], self.place)?;
            self.client.patience().check()?;
            if part.len > self.limit {
                return Err(self.place.error(Failure::TooLarge { size: part.len, limit: self.limit }));
            }
            self.report(part.len);
            if since.elapsed() >= self.client.timeout() && size != Some(part.len) {
                if part.len - mark < MIN_BYTES {
                    return Err(self.slow());
                }
                (since, mark) = (Instant::now(), part.len);
            }
        }
        Ok(())
    }

    fn cut(&self, size: Option<u64>, part: &Part) -> Error {
        self.place.error(Failure::Cut { got: part.len, size })
    }

    fn slow(&self) -> Error {
        self.place.error(Failure::TimedOut { after: self.client.timeout() })
    }

    fn report(&self, done: u64) {
        (self.progress)(Progress { file: &self.place.file, done, size: self.head.size });
    }
}

/// First byte and total of `bytes 5-9/10`; the total may be `*`.
fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.parse().ok()?;
    if total == "*" { Some((first, None)) } else { Some((first, Some(total.parse().ok()?))) }
}

fn is_timeout(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<ureq::Error>());
    error.kind() == std::io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}

/// The growing file, and the digest of what it holds.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    digest: Context,
}

impl Part {
    fn open(path: &Path, place: &Place) -> Result<Self> {
        create_parent(path, place)?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(|source| place.write_error(path, source))?;
        let mut part = Self { path: path.to_path_buf(), file, len: 0, digest: Context::new(&SHA256) };
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = part.file.read(&mut buffer).map_err(|e| place.write_error(path, e))?;
            if read == 0 {
                return Ok(part);
            }
            part.digest.update(&buffer[..read]);
            part.len += read as u64;
        }
    }

    fn append(&mut self, bytes: &[u8], place: &Place) -> Result<()> {
        let written = self.file.write_all(bytes);
        if let Err(source) = written {
            // Some of the bytes may have been written; the next call hashes what is there.
            return Err(place.write_error(&self.path, source));
        }
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self, place: &Place) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|source| place.write_error(&self.path, source))?;
        (self.len, self.digest) = (0, Context::new(&SHA256));
        Ok(())
    }

    fn check(&self, head: &Head, place: &Place) -> Result<()> {
        let Some(expected) = head.sha256() else { return Ok(()) };
        let got = hex(self.digest.clone().finish().as_ref());
        if got.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(place.error(Failure::Mismatch { expected: expected.to_string(), got }))
    }

    fn finish(self, blob: &Path, place: &Place) -> Result<()> {
        // A disk that is full may say so only here.
        self.file.sync_all().map_err(|source| place.write_error(&self.path, source))?;
        fs::rename(&self.path, blob).map_err(|source| place.write_error(blob, source))
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
