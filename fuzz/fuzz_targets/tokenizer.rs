//! Any bytes as a tokenizer.json: it is refused, or reads texts, whole and in windows alike.
#![no_main]

use std::io::Write;

use lb_model::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = std::fs::File::create(folder.path().join("tokenizer.json")).expect("a file");
    file.write_all(bytes).expect("written");
    drop(file);
    match Tokenizer::load(folder.path()) {
        Ok(tokenizer) => {
            for text in ["", "The office of the keeper, 1 234 567.\r\n", "größe 漢字 🙂 \u{0}\u{1b} <s>"] {
                if let Ok(ids) = tokenizer.encode_text(text) {
                    let _ = tokenizer.decode(&ids);
                    assert_eq!(tokenizer.pieces(&ids).len(), ids.len());
                }
            }
        }
        Err(error) => assert!(error.to_string().len() < 8192, "an error repeats what it read"),
    }
});
