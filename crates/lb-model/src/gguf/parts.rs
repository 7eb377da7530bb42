//! A model in several files: `NAME-00001-of-00003.gguf` and so on, the metadata in the first.

use std::path::{Path, PathBuf};

use super::Gguf;
use crate::{Error, Result};

/// More parts than any model has.
const MAX_PARTS: usize = 4096;

/// NAME and N of `NAME-00001-of-N.gguf`.
fn stem_and_count(path: &Path) -> Option<(&str, usize)> {
    let (rest, count) = path.file_stem()?.to_str()?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(count)).then_some((stem, count.parse().ok()?))
}

impl Gguf {
    /// The file itself, or all parts that it is one of, whichever.
    pub(super) fn whole(one: Self) -> Result<Self> {
        let count = match one.count("split.count")? {
            None | Some(0 | 1) => return Ok(one),
            Some(count) => count,
        };
        let named = stem_and_count(&one.path).filter(|(_, named)| *named == count && count <= MAX_PARTS);
        let Some((stem, _)) = named else {
            let reason = "the parts of a file are found by their names, NAME-00001-of-0000N.gguf and so on";
            return Err(one.unsupported("split.count", reason));
        };
        let path = |part: usize| one.path.with_file_name(format!("{stem}-{part:05}-of-{count:05}.gguf"));
        let paths: Vec<PathBuf> = (1..=count).map(path).collect();
        let missing: Vec<String> = paths
            .iter()
            .filter(|path| !path.is_file())
            .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        if !missing.is_empty() {
            return Err(Error::MissingParts { path: one.path, missing, count });
        }
        let mut first = Self::one(&paths[0])?;
        first.check_part(0, count)?;
        for (part, path) in paths.iter().enumerate().skip(1) {
            let other = Self::one(path)?;
            other.check_part(part, count)?;
            for (name, mut info) in other.tensors {
                info.part = part;
                if first.tensors.insert(name.clone(), info).is_some() {
                    let reason = format!("the tensor `{name}` is in an earlier part already");
                    return Err(Error::Corrupt { path: other.path, reason });
                }
            }
            first.others.push(other.map);
            first.beside.push(other.path);
        }
        match first.count("split.tensors.count")? {
            Some(tensors) if tensors != first.tensors.len() => {
                let found = first.tensors.len();
                let reason = format!("{found} tensors in all parts, where the first says {tensors}");
                Err(Error::Corrupt { path: first.path, reason })
            }
            _ => Ok(first),
        }
    }

    /// Whether the file is the part that its name says.
    fn check_part(&self, part: usize, count: usize) -> Result<()> {
        let (number, said) = (self.count("split.no")?, self.count("split.count")?);
        if number.unwrap_or(part) == part && said == Some(count) {
            return Ok(());
        }
        let reason =
            format!("it says that it is part {number:?} (from 0) of {said:?}, its name says otherwise");
        Err(Error::Corrupt { path: self.path.clone(), reason })
    }

    /// What the model is called after its file, or its parts.
    pub(crate) fn model_name(&self) -> String {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        match stem_and_count(&self.path).filter(|_| !self.others.is_empty()) {
            Some((name, _)) => name.to_owned(),
            None => stem.into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::stem_and_count;

    #[test]
    fn names_say_which_part_a_file_is() {
        let of = |name: &str| stem_and_count(Path::new(name)).map(|(stem, count)| (stem.to_owned(), count));
        assert_eq!(of("a/Qwen3-32B-Q4_K_M-00002-of-00003.gguf"), Some(("Qwen3-32B-Q4_K_M".to_owned(), 3)));
        assert_eq!(of("x-00001-of-00001.gguf"), Some(("x".to_owned(), 1)));
        for name in
            ["x.gguf", "x-1-of-3.gguf", "x-00001-of-3.gguf", "00001-of-00003.gguf", "x-0000a-of-00003.gguf"]
        {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
