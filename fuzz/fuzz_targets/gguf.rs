//! Any bytes as a GGUF file: it is refused, or a worker comes of it that reads a text.
#![no_main]

use std::io::Write;

use candle_core::Device;
use lb_model::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    let checkpoint = match Checkpoint::gguf(file.path()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return assert!(error.to_string().len() < 8192, "an error repeats what it read"),
    };
    let _ = checkpoint.warnings();
    match checkpoint.load(&Device::Cpu, None) {
        Ok(worker) => drop(worker.tokenizer().encode_text("The keeper's office: 12.")),
        Err(error) => assert!(error.to_string().len() < 8192, "an error repeats what it read"),
    }
});
