//! Any bytes as what a process that runs code writes to its host.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lb_sandbox::fuzzing::wire(bytes);
});
