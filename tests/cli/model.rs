//! `generate`, `quantize` and `quickstart`: what needs a model and no trajectory.

use serde_json::json;

use super::{TASK, json_of, notes, ran};

#[test]
fn a_prompt_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let logits = folder.path().join("logits.safetensors");
    let arguments = ["generate", "--prompt", "The ledger", "--max-new-tokens", "8"];
    let plain = ran(arguments);
    assert_eq!(plain.code, 0, "{}", plain.err);
    let told = json_of(arguments.into_iter().chain(["--dump-logits", logits.to_str().unwrap()]));
    assert_eq!(told["text"].as_str().unwrap(), plain.out.strip_suffix('\n').unwrap());
    let prompt = told["prompt_tokens"].as_u64().unwrap() as usize;
    assert_eq!(told["worker"], "embedded");
    assert!(prompt > 0 && told["tokens"].as_array().unwrap().len() <= 8, "{told}");
    let tensors = candle_core::safetensors::load(&logits, &candle_core::Device::Cpu).unwrap();
    assert_eq!(tensors["logits"].dims()[0], prompt);
    // Token ids, and a conversation.
    assert_eq!(json_of(["generate", "--tokens", "5,6,7", "--max-new-tokens", "1"])["prompt_tokens"], 3);
    let chat = folder.path().join("chat.json");
    std::fs::write(&chat, json!([{ "role": "user", "content": TASK }]).to_string()).unwrap();
    let told = json_of(["generate", "--messages", chat.to_str().unwrap(), "--max-new-tokens", "4"]);
    assert!(told["prompt_tokens"].as_u64().unwrap() > 8, "{told}");
}

#[test]
fn a_quantised_worker_is_written_whole_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker.gguf");
    let path = file.to_str().unwrap();
    let told = json_of(["quantize", "--format", "q8_0", "-o", path]);
    let bytes = std::fs::metadata(&file).unwrap().len();
    assert_eq!((&told["format"], told["bytes"].as_u64()), (&json!("q8_0"), Some(bytes)));
    let notes = notes(folder.path());
    let told = json_of(["ask", TASK, notes.to_str().unwrap(), "--worker", path, "--handoff", "full-kv"]);
    assert_eq!(told["answer"], "Anara", "{told}");
    let ended = ran(["quantize", "-o", "/no/such/folder/worker.gguf"]);
    assert!(ended.code == 1 && ended.err.contains("/no/such/folder"), "{}", ended.err);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn the_quickstart_compares_six_handoffs() {
    let folder = tempfile::tempdir().unwrap();
    let (page, figures) = (folder.path().join("page.html"), folder.path().join("figures.json"));
    let told = json_of(["quickstart", "--episodes", "1", "--seed", "3"]);
    let names: Vec<&str> =
        told["handoffs"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["none", "full-kv", "text-replay", "recent", "random", "latent-briefing"]);
    // With a file, what is said to a person stays.
    let ended = ran([
        "quickstart",
        "--episodes",
        "1",
        "--seed",
        "3",
        "--html",
        page.to_str().unwrap(),
        "--json",
        figures.to_str().unwrap(),
    ]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains("Task") && ended.out.contains("The worker answered"), "{}", ended.out);
    assert!(!ended.out.contains('\u{1b}'), "no colours in a pipe: {}", ended.out);
    assert!(page.is_file());
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    let accuracy = |told: &serde_json::Value| {
        let rows = told["handoffs"].as_array().unwrap().iter();
        rows.map(|row| row["accuracy"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(accuracy(&written), accuracy(&told));
    assert!(ran(["quickstart", "--keep-ratio", "2"]).err.contains("keep_ratio"));
}
