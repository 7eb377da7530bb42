//! Any bytes as a streamed reply of a server.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lb_orchestrate::fuzzing::stream(bytes);
});
