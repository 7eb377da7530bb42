//! Which GGUF files of a repository make up a model, and which model a name means.

use std::collections::BTreeMap;
use std::path::Path;

use super::client::Listed;
use super::names::{Choice, is_gguf};

/// A model in one file, or in the parts of one.
#[derive(Debug)]
pub(super) struct Model<'l> {
    /// The path without `.gguf` and without what counts the parts.
    pub(super) stem: &'l str,
    /// Its files, first part first.
    pub(super) files: Vec<&'l Listed>,
}

impl Model<'_> {
    /// The path and size that stand for it in a list.
    pub(super) fn entry(&self) -> (String, Option<u64>) {
        (self.files[0].path.clone(), self.files.iter().map(|file| file.size).sum())
    }
}

/// The path of a GGUF file without its ending, of one in parts without what counts them.
pub(super) fn stem(path: &str) -> &str {
    part(path).map_or_else(|| path.get(..path.len().saturating_sub(5)).unwrap_or(path), |(stem, ..)| stem)
}

/// What `NAME-00002-of-00003.gguf` says: the name, the part and how many there are.
fn part(path: &str) -> Option<(&str, usize, usize)> {
    let name = path.get(..path.len().checked_sub(5)?).filter(|_| is_gguf(path))?;
    let (before, of) = name.rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    let count = |digits: &str| (digits.len() == 5).then(|| digits.parse::<usize>().ok()).flatten();
    Some((stem, count(number)?, count(of)?)).filter(|(_, number, of)| (1..=*of).contains(number))
}

/// All parts of the model that a file belongs to, by name, first part first.
pub(super) fn parts(path: &str) -> Vec<String> {
    match part(path) {
        Some((stem, _, of)) => {
            let end = &path[path.len() - 5..];
            (1..=of).map(|number| format!("{stem}-{number:05}-of-{of:05}{end}")).collect()
        }
        None => vec![path.to_string()],
    }
}

/// The models among the files of a repository, by name. Projectors of images and statistics for quantising are none.
pub(super) fn models(files: &[Listed]) -> Vec<Model<'_>> {
    let mut found: BTreeMap<(&str, usize), Vec<&Listed>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_gguf(&file.path) && is_language_model(&file.path)) {
        let parts = part(&file.path).map_or(1, |(.., of)| of);
        found.entry((stem(&file.path), parts)).or_default().push(file);
    }
    let sorted = |mut files: Vec<_>| {
        files.sort_by_key(|file: &&Listed| file.path.clone());
        files
    };
    found.into_iter().map(|((stem, _), files)| Model { stem, files: sorted(files) }).collect()
}

fn is_language_model(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name).to_ascii_lowercase();
    !name.starts_with("mmproj") && !name.contains("imatrix")
}

/// The models that a choice means: one, if it is a good one.
pub(super) fn chosen<'l>(models: Vec<Model<'l>>, choice: Option<&Choice>) -> Vec<Model<'l>> {
    match choice {
        None => models,
        Some(Choice::File(path)) => {
            models.into_iter().filter(|model| model.files.iter().any(|file| file.path == *path)).collect()
        }
        Some(Choice::Tag(tag)) => {
            let (exact, rest): (Vec<_>, Vec<_>) = models
                .into_iter()
                .filter(|model| ends_with_tag(model.stem, tag))
                .partition(|model| !is_variant(model.stem, tag));
            if exact.is_empty() { rest } else { exact }
        }
    }
}

/// Whether a name ends with a tag, whatever its case, behind one of the marks that part names.
fn ends_with_tag(stem: &str, tag: &str) -> bool {
    let Some(at) = stem.len().checked_sub(tag.len()) else { return false };
    let fits = stem.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(tag));
    fits && (at == 0 || matches!(stem.as_bytes()[at - 1], b'-' | b'.' | b'_' | b'/'))
}

/// Whether another word of quantising stands before the tag: `UD-Q4_K_XL` is not what `Q4_K_XL` means first.
fn is_variant(stem: &str, tag: &str) -> bool {
    let before = &stem[..stem.len() - tag.len()];
    ["ud-", "i1-"].iter().any(|word| {
        before.len() >= word.len()
            && before.as_bytes()[before.len() - word.len()..].eq_ignore_ascii_case(word.as_bytes())
    })
}

/// The GGUF files below a snapshot's folder, as a repository lists them.
pub(super) fn in_folder(folder: &Path) -> Vec<Listed> {
    const DEPTH: usize = 4;
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else { continue };
            let named = format!("{prefix}{name}");
            if path.is_dir() && depth < DEPTH {
                folders.push((path, named + "/", depth + 1));
            } else if is_gguf(name) && path.is_file() {
                found.push(Listed { path: named, size: path.metadata().ok().map(|data| data.len()) });
            }
        }
    }
    found
}

/// Files that look like weights of a model.
pub(super) fn weights(files: &[Listed]) -> Vec<String> {
    const ENDS: [&str; 11] =
        ["bin", "safetensors", "gguf", "ggml", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "pkl"];
    let is_weights = |file: &&Listed| file.path.rsplit_once('.').is_some_and(|(_, end)| ENDS.contains(&end));
    files.iter().filter(is_weights).map(|file| file.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(paths: &[&str]) -> Vec<Listed> {
        paths.iter().map(|path| Listed { path: (*path).to_string(), size: Some(1) }).collect()
    }

    /// Names of files as public repositories have them.
    const FILES: [&str; 12] = [
        "README.md",
        "mmproj-model-f16.gguf",
        "imatrix_unsloth.gguf",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "qwen2.5-coder-0.5b-instruct-q4_k_s.gguf",
        "qwen2.5-coder-0.5b-instruct-q8_0.gguf",
        "Qwen3-4B-UD-Q5_K_XL.gguf",
        "tinyllama.Q6_K.gguf",
        "BF16/Qwen3-4B-BF16-00001-of-00002.gguf",
        "BF16/Qwen3-4B-BF16-00002-of-00002.gguf",
        "Q2_K/Qwen3-4B-UD-Q2_K.gguf",
        "Q2_K/Qwen3-4B-Q2_K.gguf",
    ];

    #[test]
    fn tags_choose_as_people_write_them() {
        let files = listed(&FILES);
        for (tag, expected) in [
            ("Q4_K_M", vec!["qwen2.5-coder-0.5b-instruct-q4_k_m"]),
            ("q4_k_m", vec!["qwen2.5-coder-0.5b-instruct-q4_k_m"]),
            ("Q8_0", vec!["qwen2.5-coder-0.5b-instruct-q8_0"]),
            ("q6_k", vec!["tinyllama.Q6_K"]),
            ("bf16", vec!["BF16/Qwen3-4B-BF16"]),
            ("UD-Q5_K_XL", vec!["Qwen3-4B-UD-Q5_K_XL"]),
            ("Q5_K_XL", vec!["Qwen3-4B-UD-Q5_K_XL"]),
            ("Q2_K", vec!["Q2_K/Qwen3-4B-Q2_K"]),
            ("ud-q2_k", vec!["Q2_K/Qwen3-4B-UD-Q2_K"]),
            ("Q4_K", vec![]),
            ("K", vec!["Q2_K/Qwen3-4B-Q2_K", "Q2_K/Qwen3-4B-UD-Q2_K", "tinyllama.Q6_K"]),
            ("f16", vec![]),
        ] {
            let found = chosen(models(&files), Some(&Choice::Tag(tag.to_string())));
            let stems: Vec<&str> = found.iter().map(|model| model.stem).collect();
            assert_eq!(stems, expected, "{tag}");
        }
    }

    #[test]
    fn parts_belong_together() {
        let files = listed(&FILES);
        let model = chosen(models(&files), Some(&Choice::File(FILES[9].to_string())));
        assert_eq!(model[0].entry(), (FILES[8].to_string(), Some(2)));
        assert_eq!(parts(FILES[9]), [FILES[8], FILES[9]]);
        assert_eq!(parts("a.gguf"), ["a.gguf"]);
        for odd in ["a-00003-of-00002.gguf", "a-1-of-2.gguf", "a-00000-of-00002.gguf", "-of-.gguf", "x"] {
            assert_eq!(parts(odd), [odd]);
        }
    }
}
