//! Files that are none: endless devices, pipes that nobody writes to, headers that claim the machine's memory, values so long
//! that an error must not repeat them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use latent_briefing::eval::datasets::{FileKind, LoadOptions, OnFault, load};
use latent_briefing::eval::{logs, runs::questions, tensor_job::TensorJob};
use latent_briefing::model::{Checkpoint, ModelConfig, Tokenizer, Worker};
use latent_briefing::orchestrate::{PriceTable, RunRecord};
use latent_briefing::session::{Trajectory, read_text};

use crate::support::apart::{measured, part, tell_measured};
use crate::support::checkpoints::{Copy, GROUPED, TIED};

type Read = fn(&Path) -> Result<(), String>;

/// Everything that reads a file which a user names, and what it says of one.
fn readers() -> Vec<(&'static str, Read)> {
    fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<(), String> {
        result.map(drop).map_err(|error| error.to_string())
    }
    /// The folder of a checkpoint in which one file is this one.
    fn in_a_checkpoint(path: &Path, name: &str) -> Result<(), String> {
        let copy = Copy::of(if name.ends_with("index.json") { GROUPED } else { TIED });
        let _ = fs::remove_file(copy.file(name));
        #[cfg(unix)]
        std::os::unix::fs::symlink(path, copy.file(name)).unwrap();
        #[cfg(not(unix))]
        fs::copy(path, copy.file(name)).unwrap();
        said(Worker::load(copy.file("")))
    }
    vec![
        ("config.json", |path| in_a_checkpoint(path, "config.json")),
        ("tokenizer.json", |path| in_a_checkpoint(path, "tokenizer.json")),
        ("tokenizer_config.json", |path| in_a_checkpoint(path, "tokenizer_config.json")),
        ("model.safetensors", |path| in_a_checkpoint(path, "model.safetensors")),
        ("index", |path| in_a_checkpoint(path, "model.safetensors.index.json")),
        ("GGUF", |path| said(Checkpoint::gguf(path))),
        ("document", |path| said(read_text(path))),
        ("log of a run", |path| said(RunRecord::open(path))),
        ("log of an agent", |path| said(Trajectory::read(path))),
        ("prices", |path| said(PriceTable::open(path))),
        ("data set", |path| {
            let options = LoadOptions { on_fault: OnFault::Fail, ..LoadOptions::default() };
            said(load(path, FileKind::LongBenchV2, &options))
        }),
        ("logs", |path| {
            let options = logs::LoadOptions { on_fault: OnFault::Fail, ..logs::LoadOptions::default() };
            said(logs::load(path, &options))
        }),
        ("questions", |path| said(questions::read_questions(path, None))),
        ("tensors", |path| said(TensorJob::read(path))),
    ]
}

/// Does nothing but in the processes that the tests start: `READER PATH`.
#[test]
fn played() {
    let Some(part) = part() else { return };
    let (reader, path) = part.split_once('\t').unwrap();
    let (_, read) = readers().into_iter().find(|(name, _)| *name == reader).unwrap();
    tell_measured(match read(Path::new(path)) {
        Ok(()) => "accepted".to_owned(),
        Err(error) => format!("{} characters: {error}", error.chars().count()).replace('\n', " "),
    });
}

/// Reads `path` as everything that it can be; fails where that takes long or much.
#[track_caller]
fn refused_by_all(path: &Path, but: &[&str]) {
    for (reader, _) in readers().into_iter().filter(|(name, _)| !but.contains(name)) {
        let taken = measured("hostile::readers::played", &format!("{reader}\t{}", path.display()));
        println!("{:5.2} s {:4} MiB  {reader}: {}", taken.time.as_secs_f64(), taken.bytes >> 20, taken.told);
        assert!(taken.told != "accepted", "{reader}");
        assert!(taken.time < Duration::from_secs(10), "{reader}: {taken:?}");
        assert!(taken.bytes < 512 << 20, "{reader}: {taken:?}");
        let characters: usize = taken.told.split(' ').next().unwrap().parse().unwrap();
        assert!(characters < 1500, "{reader}: {taken:?}");
    }
}

#[test]
#[cfg(unix)]
fn endless_devices_and_silent_pipes() {
    let dir = tempfile::tempdir().unwrap();
    refused_by_all(Path::new("/dev/zero"), &[]);
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused_by_all(&pipe, &[]);
    refused_by_all(dir.path(), &[]);
}

/// A field of a megabyte where a short word should be, a line of a megabyte that is no JSON.
#[test]
fn errors_do_not_repeat_what_they_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(1 << 20);
    let files = [
        format!("{{\"model_type\": \"{long}\"}}"),
        format!("{{\"{long}\": 1}}"),
        format!("{{\"model_type\": \"qwen3\", \"hidden_size\": \"{long}\"}}"),
        format!(
            "{{\"messages\": \"{long}\", \"id\": \"{long}\", \"trajectory\": \"{long}\", \"type\": \"{long}\"}}\n"
        ),
        format!(
            "{{\"version\": \"1.0\", \"model\": {{\"type\": \"{long}\"}}, \"chat_template\": \"{long}\"}}"
        ),
        format!("[[models]]\nname = \"{long}\"\ninput = \"{long}\"\n"),
        format!("\"{long}\"\n"),
        long,
    ];
    for (number, text) in files.iter().enumerate() {
        let path = dir.path().join(format!("{number}.json"));
        fs::write(&path, text).unwrap();
        for (reader, read) in readers() {
            // A text is a document, and a tokenizer's settings may say anything.
            if let Err(error) = read(&path) {
                let characters = error.chars().count();
                assert!(
                    characters < 1500,
                    "{reader} of file {number}: {characters} characters: {error:.300}"
                );
            }
        }
    }
}

/// Its header alone would be gigabytes once read.
#[test]
#[cfg(unix)]
fn a_header_of_ninety_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("model.safetensors");
    let mut header = String::with_capacity(91 << 20);
    header.push('{');
    let mut n = 0;
    while header.len() < 90 << 20 {
        let _ = write!(header, "\"{n}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}},");
        n += 1;
    }
    header.pop();
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    fs::write(&path, file).unwrap();
    let only = ["model.safetensors", "tensors"];
    let others: Vec<&str> =
        readers().iter().map(|(name, _)| *name).filter(|name| !only.contains(name)).collect();
    refused_by_all(&path, &others);
}

/// Values of a GGUF's metadata, names in it, and its template.
#[test]
fn errors_of_gguf_files_are_short() {
    use crate::support::gguf_bytes::{Gguf, Value};
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(1 << 20);
    for values in [
        vec![("general.architecture".to_owned(), Value::Text(long.clone()))],
        vec![
            ("general.architecture".to_owned(), Value::Text("qwen3".to_owned())),
            (long.clone(), Value::U32(1)),
        ],
        vec![
            ("general.architecture".to_owned(), Value::Text("qwen3".to_owned())),
            ("qwen3.block_count".to_owned(), Value::Text(long.clone())),
        ],
    ] {
        let path = dir.path().join("x.gguf");
        Gguf { values, tensors: Vec::new(), data: Vec::new() }.write(&path);
        let error =
            Checkpoint::gguf(&path).and_then(|checkpoint| checkpoint.warnings()).unwrap_err().to_string();
        assert!(error.chars().count() < 1500, "{error:.300}");
    }
}

/// No request is made for it, so that none fails without a network.
#[test]
fn what_looks_like_a_path_is_not_asked_for_at_the_hub() {
    for name in ["./models/nothing", "/nowhere/model", "../a/b", "~/no/such/model", "models/nothing.gguf"] {
        let error = Checkpoint::open(name).map(drop).unwrap_err().to_string();
        assert!(error.contains("no such file or folder"), "{name}: {error}");
    }
}

/// What is read as settings of a model says nothing long of itself, whatever warns of it.
#[test]
fn warnings_are_short() {
    let copy = Copy::of(TIED);
    let text = fs::read_to_string(copy.file("config.json")).unwrap();
    let long = "y".repeat(1 << 20);
    let text = text.replacen('{', &format!("{{\"{long}\": \"{long}\","), 1);
    let (_, warnings) = ModelConfig::parse(text.as_bytes(), Path::new("config.json")).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().chars().count() < 600);
    assert!(Tokenizer::load(copy.file("")).is_ok());
}
