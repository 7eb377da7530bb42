//! Any bytes as the log of a run.
#![no_main]

use std::io::Write;

use lb_orchestrate::RunRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.jsonl");
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(bytes).expect("written");
    drop(file);
    match RunRecord::open(&path) {
        Ok(record) => {
            let _ = (record.answer(), record.turns().count());
            // A log names files of documents; none is there.
            let _ = record.contexts();
            let _ = lb_explain::run_page(&record);
        }
        Err(error) => assert!(error.to_string().len() < 8192, "an error repeats what it read"),
    }
});
