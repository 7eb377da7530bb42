//! Any bytes as a config.json.
#![no_main]

use std::path::Path;

use lb_model::ModelConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match ModelConfig::parse(bytes, Path::new("config.json")) {
        Ok((config, warnings)) => {
            assert!(config.group_size() > 0 && config.position_limit() > 0);
            warnings.iter().for_each(|warning| assert!(warning.to_string().len() < 4096));
        }
        Err(error) => assert!(error.to_string().len() < 8192, "an error repeats what it read"),
    }
});
