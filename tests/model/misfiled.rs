//! Files that stand in for others, files that are missing, and links.

use std::fs;
use std::path::Path;

use candle_core::Device;
use lb_model::{Checkpoint, Error, Worker};
use tempfile::TempDir;

use crate::support::assert_error;
use crate::support::checkpoints::{Copy, GROUPED, golden, worker};
use crate::support::compare::assert_same;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n";
const PAGE: &str = "<!DOCTYPE html>\n<html class=\"\">\n<head><title>Hugging Face</title></head>\n</html>";

const FILES: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
];

fn one_line(error: &Error) {
    assert!(!error.to_string().contains('\n'), "{error}");
}

/// Whatever stands in the place of whatever file is told, and what helps.
#[test]
fn what_stands_in_for_a_file_is_told() {
    let cases: [(&[u8], &[&str]); 8] = [
        (POINTER.as_bytes(), &["git-lfs pointer", "269060552 bytes", "git lfs pull"]),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            &["git-lfs pointer", "git lfs pull"],
        ),
        (b"# xet version 0\nfilesize = 17\n", &["xet pointer", "download it again"]),
        (PAGE.as_bytes(), &["page of the web", "token"]),
        (b"\n  <html><body>Access denied</body></html>", &["page of the web"]),
        (b"Entry not found", &["a server's message", "Entry not found"]),
        (b"Access to model meta-llama/Llama-3.2-1B is restricted.", &["a server's message", "is restricted"]),
        (b"{\"error\":\"Repository not found\"}", &["a server's message", "Repository not found"]),
    ];
    for file in FILES {
        for (content, words) in cases {
            let copy = Copy::of("llama3");
            fs::write(copy.file(file), content).unwrap();
            let error = copy.error();
            one_line(&error);
            assert_error!(&error, Error::Misfiled { .. }, file);
            for word in words {
                assert!(error.to_string().contains(word), "{file}: {error}");
            }
        }
        let copy = Copy::of("llama3");
        fs::write(copy.file(file), "").unwrap();
        assert_error!(copy.error(), Error::Corrupt { .. }, file, "an empty file", "download it again");
    }
    // A shard, and a GGUF file.
    let copy = Copy::of(GROUPED);
    let shard = "model-00002-of-00003.safetensors";
    fs::write(copy.file(shard), POINTER).unwrap();
    assert_error!(copy.error(), Error::Misfiled { .. }, shard, "git-lfs pointer");
    for (content, word) in [(POINTER, "git-lfs pointer"), (PAGE, "page of the web")] {
        let file = copy.file("model.gguf");
        fs::write(&file, content).unwrap();
        assert_error!(Worker::load(&file).unwrap_err(), Error::Misfiled { .. }, "model.gguf", word);
    }
}

/// Weights in other formats under the name of safetensors.
#[test]
fn other_formats_are_told() {
    let cases: [(&[u8], &str); 4] = [
        (b"PK\x03\x04\x00\x00\x08\x08\x00\x00", "pickled PyTorch file"),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00", "pickled PyTorch file"),
        (b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00", "a GGUF file under another name"),
        (b"\x1F\x8B\x08\x00\x00\x00\x00\x00", "gzip"),
    ];
    for (content, word) in cases {
        let copy = Copy::of("llama3");
        fs::write(copy.file("model.safetensors"), content).unwrap();
        let error = copy.error();
        one_line(&error);
        assert_error!(error, Error::Misfiled { .. }, "model.safetensors", word);
    }
    // Headers of 640 bytes begin like a pickle, and of 35,615 like gzip, but are whole files.
    let whole = fs::read(golden("llama3").join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for header in [640usize, 35_615] {
        let copy = Copy::of("llama3");
        let padded = [&(header as u64).to_le_bytes()[..], &whole[8..8 + length]].concat();
        let mut bytes = padded;
        assert!(length <= header || header == 640, "the header fits");
        if length > header {
            continue;
        }
        bytes.resize(8 + header, b' ');
        bytes.extend(&whole[8 + length..]);
        fs::write(copy.file("model.safetensors"), bytes).unwrap();
        copy.load();
    }
}

/// A download that was broken off says how much is there.
#[test]
fn cut_downloads_are_told() {
    let whole = fs::read(golden("llama3").join("model.safetensors")).unwrap();
    for (length, words) in [
        (whole.len() - 1, ["cut short", "data bytes"]),
        (whole.len() / 2, ["cut short", "download it again"]),
        (100, ["cut short inside its header", "100 bytes"]),
    ] {
        let copy = Copy::of("llama3");
        fs::write(copy.file("model.safetensors"), &whole[..length]).unwrap();
        let error = copy.error();
        assert_error!(&error, Error::Corrupt { .. }, "model.safetensors", words[0], words[1]);
    }
}

/// A folder that lacks a file is told by what it holds instead.
#[test]
fn incomplete_folders_are_told() {
    let cases: [(&str, &[&str], &str); 11] = [
        ("model.safetensors", &["pytorch_model.bin"], "pickled PyTorch weights"),
        (
            "model.safetensors",
            &["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
            "save_pretrained",
        ),
        ("model.safetensors", &["adapter_model.safetensors", "adapter_config.json"], "LoRA adapter"),
        ("model.safetensors", &["consolidated.safetensors"], "Mistral's own layout"),
        ("model.safetensors", &["consolidated.00.pth"], "pickled PyTorch weights"),
        ("model.safetensors", &["model-Q4_K_M.gguf"], "name the file"),
        ("model.safetensors", &["model.fp16.safetensors"], "under another name"),
        ("model.safetensors", &["flax_model.msgpack"], "Flax"),
        ("tokenizer.json", &["tokenizer.model"], "AutoTokenizer"),
        ("tokenizer.json", &["vocab.json", "merges.txt"], "AutoTokenizer"),
        ("config.json", &["params.json"], "own layout"),
    ];
    for (missing, instead, word) in cases {
        let copy = Copy::of("llama3");
        fs::remove_file(copy.file(missing)).unwrap();
        for file in instead {
            fs::write(copy.file(file), "x").unwrap();
        }
        // Whether the head is tied or not.
        for tied in [true, false].into_iter().take(if missing == "config.json" { 1 } else { 2 }) {
            if missing != "config.json" {
                copy.edit_json("config.json", |config| config["tie_word_embeddings"] = tied.into());
            }
            let error = copy.error();
            one_line(&error);
            assert_error!(error, Error::Incomplete { .. }, missing, instead[0], word);
        }
    }
    // What browsers and editors make of names.
    for (file, called) in [
        ("config.json", "config .json"),
        ("config.json", "config (1).json"),
        ("config.json", "config.json.txt"),
        ("tokenizer.json", "Tokenizer.json"),
        ("model.safetensors", "model.safetensors.crdownload"),
        ("model.safetensors", "model(2).safetensors"),
    ] {
        let copy = Copy::of("llama3");
        fs::rename(copy.file(file), copy.file(called)).unwrap();
        assert_error!(copy.error(), Error::Incomplete { .. }, file, called, "another name");
    }
    // An adapter's folder has no config.json at all, a folder of GGUF files neither.
    for (file, word) in [("adapter_model.safetensors", "LoRA adapter"), ("model-Q8_0.gguf", "name the file")]
    {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(file), "x").unwrap();
        let error = Worker::load(folder.path()).unwrap_err();
        assert_error!(error, Error::Incomplete { .. }, "config.json", file, word);
    }
    let folder = TempDir::new().unwrap();
    assert_error!(Worker::load(folder.path()).unwrap_err(), Error::Incomplete { .. }, "the folder is empty");
    let copy = Copy::of(GROUPED);
    fs::remove_file(copy.file("model-00002-of-00003.safetensors")).unwrap();
    assert_error!(
        copy.error(),
        Error::Io { .. },
        "model-00002-of-00003.safetensors",
        "the index lists this shard"
    );
}

/// In the hub's cache every file of a snapshot is a link to a blob without a name.
#[cfg(unix)]
#[test]
fn a_file_of_a_snapshot_names_its_snapshot() {
    let cache = TempDir::new().unwrap();
    let model = cache.path().join("models--org--tiny--llama");
    let snapshot = model.join("snapshots/0123abcd");
    let blobs = model.join("blobs");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    for (number, file) in fs::read_dir(golden("llama3")).unwrap().enumerate() {
        let file = file.unwrap();
        fs::copy(file.path(), blobs.join(number.to_string())).unwrap();
        let blob = Path::new("../../blobs").join(number.to_string());
        std::os::unix::fs::symlink(blob, snapshot.join(file.file_name())).unwrap();
    }
    let expected = worker("llama3");
    let logits =
        |worker: &Worker| worker.model().forward(&[5, 6, 7], &mut worker.model().new_cache()).unwrap();
    for named in ["config.json", "model.safetensors", "tokenizer.json", ""] {
        let worker = Worker::load(snapshot.join(named)).unwrap();
        assert_eq!(worker.name(), "org/tiny--llama");
        assert_same(&logits(&worker), &logits(&expected));
    }
    // A GGUF file of a snapshot finds what lies beside it, not beside its blob.
    let folder = cache.path().join("linked");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(snapshot.join("config.json"), folder.join("config.json")).unwrap();
    let linked = Checkpoint::dir(folder.join("config.json")).unwrap();
    assert_error!(linked.load(&Device::Cpu, None).unwrap_err(), Error::Io { .. }, "linked");
    // A link to a whole model from a folder that is none.
    let lone = cache.path().join("lone");
    fs::create_dir(&lone).unwrap();
    std::os::unix::fs::symlink(golden("llama3").join("model.safetensors"), lone.join("weights")).unwrap();
    assert_same(&logits(&Worker::load(lone.join("weights")).unwrap()), &logits(&expected));
}
