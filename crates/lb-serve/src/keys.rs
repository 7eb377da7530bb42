//! API keys: only their SHA-256 is written down, and looking one up takes as long whichever it is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lb_io::files;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::{Error, Result, Tenant};

/// What a key begins with, so that a leaked one is known for what it is.
const PREFIX: &str = "lb-";

/// Who has which key.
#[derive(Debug)]
pub struct Keys {
    known: Vec<(Tenant, [u8; 32])>,
}

impl Keys {
    /// Reads a file of lines `TENANT SHA256`, the digest in hexadecimal digits; empty lines and those that begin with `#` say nothing. A
    /// tenant may have several keys.
    ///
    /// # Errors
    /// [`Error::Keys`] naming the line, [`Error::File`].
    pub fn read(path: &Path) -> Result<Self> {
        let file = |source: std::io::Error| Error::File { path: path.to_owned(), reason: source.to_string() };
        let text = files::read_text_at_most(path, files::SETTINGS).map_err(file)?;
        let mut known = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |reason| Error::Keys { path: path.to_owned(), line: index + 1, reason };
            let mut words = line.split_whitespace();
            let (Some(name), Some(digest), None) = (words.next(), words.next(), words.next()) else {
                return Err(bad("want a tenant and the SHA-256 of its key"));
            };
            let tenant =
                Tenant::named(name).ok_or_else(|| bad("a tenant is 1 to 64 letters, digits, - and _"))?;
            let digest = digest_of(digest).ok_or_else(|| bad("the SHA-256 is 64 hexadecimal digits"))?;
            known.push((tenant, digest));
        }
        if known.is_empty() {
            return Err(Error::Keys {
                path: path.to_owned(),
                line: 0,
                reason: "no key in it, so that nobody could ask",
            });
        }
        Ok(Self { known })
    }

    /// Draws a key for a tenant and adds its digest to the file, which is made where it is missing. The key itself is nowhere but here.
    ///
    /// # Errors
    /// [`Error::Tenant`] for a name that is none, [`Error::File`].
    pub fn add(path: &Path, tenant: &str) -> Result<String> {
        let tenant = Tenant::named(tenant).ok_or_else(|| Error::Tenant { name: tenant.to_owned() })?;
        let file = |reason: String| Error::File { path: PathBuf::from(path), reason };
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| file(format!("no random numbers: {error}")))?;
        let key = format!("{PREFIX}{}", hex(&bytes));
        let mut text = if path.exists() {
            files::read_text_at_most(path, files::SETTINGS).map_err(|error| file(error.to_string()))?
        } else {
            "# tenant SHA-256-of-its-key\n".to_owned()
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let _ = writeln!(text, "{tenant} {}", hex(&Sha256::digest(key.as_bytes())));
        files::write_whole(path, text.as_bytes()).map_err(|error| file(error.to_string()))?;
        Ok(key)
    }

    /// Whose key it is. Every digest is looked at, each in the same time.
    pub(crate) fn tenant(&self, key: &str) -> Option<Tenant> {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let (mut found, mut at) = (Choice::from(0), 0_u64);
        for (index, (_, known)) in self.known.iter().enumerate() {
            let same = known.ct_eq(&digest);
            at.conditional_assign(&(index as u64), same);
            found |= same;
        }
        bool::from(found).then(|| self.known[at as usize].0.clone())
    }
}

/// In hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn a_key_is_known_by_its_digest_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (ana, bo) = (Keys::add(&path, "ana").unwrap(), Keys::add(&path, "bo").unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&ana) && !text.contains(&bo), "{text}");
        let keys = Keys::read(&path).unwrap();
        assert_eq!(keys.tenant(&ana).unwrap().name(), "ana");
        assert_eq!(keys.tenant(&bo).unwrap().name(), "bo");
        for other in ["", "lb-", &ana[..ana.len() - 1], &format!("{ana} "), &ana.to_uppercase()] {
            assert!(keys.tenant(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_file_that_lets_nobody_in_or_says_nothing_clear_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        for (text, says) in [
            ("", "no key"),
            ("# none\n", "no key"),
            ("ana\n", "line 1"),
            ("\nana 12\n", "line 2"),
            ("a/b 0000000000000000000000000000000000000000000000000000000000000000\n", "a tenant is"),
            ("ana zz00000000000000000000000000000000000000000000000000000000000000\n", "64 hexadecimal"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Keys::read(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(Keys::add(&path, "../x").unwrap_err().to_string().contains("../x"));
    }
}
