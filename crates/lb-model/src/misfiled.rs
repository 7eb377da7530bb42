//! Files that are not what their names say: what stands in for them, and what to do about it.

use std::io::Read;
use std::path::Path;

use lb_io::files::open_regular;

use crate::{Error, Result};

/// Enough to tell every kind, and to quote a server's message.
pub(crate) const BEGINNING: usize = 512;

/// Refuses what a download left in the place of `path`. `content` is the file, or as much of its beginning as is at hand.
pub(crate) fn check(path: &Path, content: &[u8]) -> Result<()> {
    if content.is_empty() {
        let reason = format!("an empty file; {AGAIN}");
        return Err(Error::Corrupt { path: path.to_path_buf(), reason });
    }
    match stands_in(&content[..content.len().min(BEGINNING)]) {
        Some((found, fix)) => Err(Error::Misfiled { path: path.to_path_buf(), found, fix }),
        None => Ok(()),
    }
}

/// Like [`check`], reading the beginning.
pub(crate) fn check_file(path: &Path) -> Result<()> {
    let mut content = Vec::with_capacity(BEGINNING);
    let file = open_regular(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    match file.take(BEGINNING as u64).read_to_end(&mut content) {
        Ok(_) => check(path, &content),
        // Whoever reads it whole says what is wrong.
        Err(_) => Ok(()),
    }
}

const AGAIN: &str = "download it again";
const PULL: &str = "run `git lfs install` and `git lfs pull` in its folder, or download it again";
const ACCESS: &str = "download it again, with a token where the model asks for one";
const CONVERT: &str =
    "`AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)` of transformers writes safetensors";
const RENAME: &str = "name the file itself, with the ending .gguf";

/// What the beginning of a file shows it to be, if that is no file of a model, and what helps.
fn stands_in(content: &[u8]) -> Option<(String, &'static str)> {
    let text = String::from_utf8_lossy(content);
    let said = text.trim_start_matches('\u{FEFF}').trim_start();
    let begins = |words: &[&str]| words.iter().any(|word| starts_with(said, word));
    let found = |what: &str, fix| Some((what.to_owned(), fix));
    if begins(&["version https://git-lfs.github.com/", "version https://hawser.github.com/"]) {
        let size = said.lines().find_map(|line| line.strip_prefix("size ")).map(str::trim);
        let of = size.map(|size| format!(" for {size} bytes")).unwrap_or_default();
        return Some((format!("a git-lfs pointer{of}, not the file that it points to"), PULL));
    }
    if begins(&["# xet version"]) {
        return found("a xet pointer, not the file that it points to", AGAIN);
    }
    if begins(&["<!doctype html", "<html", "<?xml", "<head", "<body"]) {
        return found("a page of the web (HTML), not the file", ACCESS);
    }
    let messages = [
        "Entry not found",
        "Repository not found",
        "Invalid username or password",
        "Access to model",
        "Unauthorized",
        "Not Found",
    ];
    if begins(&messages) || begins(&["{\"error\""]) {
        let line = said.lines().next().unwrap_or_default();
        return Some((
            format!("a server's message, not the file: {}", line.chars().take(100).collect::<String>()),
            ACCESS,
        ));
    }
    // Safetensors begin with a length whose high bytes are 0.
    let pickled = matches!(content, [0x80, 2..=5, third, ..] if *third != 0);
    if pickled || content.starts_with(b"PK\x03\x04") {
        return found("a pickled PyTorch file, which can run code and is never read", CONVERT);
    }
    if content.starts_with(b"\x1F\x8B\x08") {
        return found("a gzip archive, not the file inside", "unpack it");
    }
    None
}

fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Refuses a GGUF file under another name.
pub(crate) fn check_no_gguf(path: &Path, content: &[u8]) -> Result<()> {
    if content.starts_with(crate::gguf::MAGIC) {
        let found = "a GGUF file under another name".to_owned();
        return Err(Error::Misfiled { path: path.to_path_buf(), found, fix: RENAME });
    }
    Ok(())
}
