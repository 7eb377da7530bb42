//! `cram` and `uncram`.

use super::{json_of, ran};

const TEXT: &str = "The Oslo ledger is kept by Ana.";

#[test]
fn a_text_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (text, file, back) = (at("text.txt"), at("text.safetensors"), at("back.txt"));
    std::fs::write(&text, TEXT).unwrap();
    // Three steps hold little; what they do not hold stands beside the vectors.
    let told = json_of(["cram", &text, "--vectors", "2", "--steps", "3", "--out", &file]);
    assert_eq!((told["vectors"].as_u64(), told["exact"].as_bool()), (Some(2), Some(false)), "{told}");
    assert_eq!(told["text_bytes"].as_u64(), Some(TEXT.len() as u64));
    assert!(told["beside"].as_u64() > Some(0));
    let printed = ran(["uncram", &file]);
    assert_eq!((printed.code, printed.out.as_str()), (0, TEXT), "{}", printed.err);
    assert_eq!(json_of(["uncram", &file])["text"], TEXT);
    assert_eq!(ran(["uncram", &file, "--out", &back]).code, 0);
    assert_eq!(std::fs::read_to_string(&back).unwrap(), TEXT);
}

#[test]
fn what_cannot_be_stored_or_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (text, file) = (at("text.txt"), at("text.safetensors"));
    let ended = ran(["cram", &text, "--out", &file]);
    assert!(ended.code == 1 && ended.err.contains("text.txt"), "{}", ended.err);
    std::fs::write(&text, TEXT).unwrap();
    let ended = ran(["cram", &text, "--vectors", "300", "--out", &file]);
    assert!(ended.code == 1 && ended.err.contains("vectors"), "{}", ended.err);
    assert_eq!(ran(["cram", &text]).code, 2, "a file to write is wanted");
    let ended = ran(["uncram", &text]);
    assert!(ended.code == 1 && ended.err.contains("text.txt"), "{}", ended.err);
    assert!(!std::path::Path::new(&file).exists());
}
