//! What a folder that lacks a file holds instead, and which folder a file belongs to.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What may lie in the place of safetensors, by ending or whole name, and what helps.
const WEIGHTS: &[(&str, &str)] = &[
    (
        "adapter_model.safetensors",
        "a LoRA adapter, which is part of a model: merge it into its base model (`merge_and_unload` of peft) and save the whole",
    ),
    (
        "consolidated.safetensors",
        "weights in Mistral's own layout, which is not read: the model's repository has them as model-*.safetensors too",
    ),
    (
        ".bin",
        "pickled PyTorch weights, which can run code and are never read: \
         `AutoModelForCausalLM.from_pretrained(D).save_pretrained(D)` of transformers writes safetensors",
    ),
    (
        ".pth",
        "pickled PyTorch weights, which can run code and are never read: the model's repository may have safetensors too",
    ),
    (".pt", "pickled PyTorch weights, which can run code and are never read: save them as safetensors"),
    (".gguf", "a GGUF file, which is a checkpoint of its own: name the file, not its folder"),
    (
        ".safetensors",
        "safetensors under another name: they are looked for as model.safetensors, or shards with an index",
    ),
    (".onnx", "an ONNX model, which is not read"),
    (".msgpack", "Flax weights, which are not read: transformers with `from_flax=True` converts them"),
    (".h5", "TensorFlow weights, which are not read: transformers with `from_tf=True` converts them"),
];

/// The same for tokenizer.json.
const TOKENIZERS: &[(&str, &str)] = &[
    ("tokenizer.model", CONVERT),
    ("vocab.json", CONVERT),
    (
        "tekken.json",
        "a tokenizer in Mistral's own layout, which is not read: the model's repository has a tokenizer.json too",
    ),
    ("qwen.tiktoken", "a tiktoken file, which is not read"),
];

const CONVERT: &str = "the tokenizer in its older layout: `AutoTokenizer.from_pretrained(D).save_pretrained(D)` of transformers \
                       writes tokenizer.json";

/// The error for a file that `dir` lacks, where what it holds shows why.
pub(crate) fn told(dir: &Path, name: &str) -> Option<Error> {
    let names: Vec<String> = fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    if let Some(near) = names.iter().find(|found| is_near(found, name)) {
        let found = format!("`{near}` may be it under another name");
        return Some(Error::Incomplete { folder: dir.to_path_buf(), missing: name.to_owned(), found });
    }
    let has = |file: &str| names.iter().any(|name| name == file);
    let find = |kinds: &[(&str, &str)]| {
        let first = |ending: &str| names.iter().filter(|name| name.ends_with(ending)).min();
        kinds.iter().find_map(|(ending, what)| Some(format!("`{}` is {what}", first(ending)?)))
    };
    let own = "`params.json` describes a model in its maker's own layout, which is not read";
    let (missing, found) = match name {
        "tokenizer.json" => (name, find(TOKENIZERS)),
        "config.json" if has("params.json") => (name, Some(own.to_owned())),
        // Where whole weights lie, nothing but the file is missing.
        "config.json" if has("model.safetensors") || has("model.safetensors.index.json") => return None,
        "model.safetensors" | "config.json" => (name, find(WEIGHTS)),
        _ => return None,
    };
    let found = found.or_else(|| names.is_empty().then(|| "the folder is empty".to_owned()))?;
    let (folder, missing) = (dir.to_path_buf(), missing.to_owned());
    Some(Error::Incomplete { folder, missing, found })
}

/// Whether a file is called like `name` but for what browsers, editors and broken downloads make of names.
fn is_near(found: &str, name: &str) -> bool {
    let mut plain: String = found.to_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    for ending in [".txt", ".part", ".crdownload", ".incomplete", ".aria2", ".download", ".tmp"] {
        plain.truncate(plain.strip_suffix(ending).map_or(plain.len(), str::len));
    }
    for number in 1..10 {
        plain = plain.replace(&format!("({number})"), "");
    }
    found != name && plain == name
}

/// The folder of a file: the one that its path names, unless the model lies where the link leads.
pub(crate) fn of(path: &Path, target: &Path, full: impl Fn(&Path) -> Result<PathBuf>) -> Result<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (own, beyond) = (full(parent)?, target.parent().unwrap_or(target));
    let whole = |dir: &Path| dir.join("config.json").is_file();
    Ok(if !whole(&own) && whole(beyond) { beyond.to_path_buf() } else { own })
}

/// What a folder is called: its own name, or `org/name` for a snapshot in the hub's cache.
pub(crate) fn name(dir: &Path) -> String {
    let last = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let repository =
        dir.parent().filter(|parent| last(parent) == "snapshots").and_then(Path::parent).map(last);
    match repository.as_deref().and_then(|name| name.strip_prefix("models--")) {
        Some(name) => name.replacen("--", "/", 1),
        None => last(dir),
    }
}
