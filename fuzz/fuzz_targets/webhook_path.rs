//! The fuzz target of the check `webhook_path`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    replicator_fuzz::check("webhook_path", input);
});
