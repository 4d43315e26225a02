//! The fuzz target of the check `binlog`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    replicator_fuzz::check("binlog", input);
});
