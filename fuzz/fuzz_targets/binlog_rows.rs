//! The fuzz target of the check `binlog_rows`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    replicator_fuzz::check("binlog_rows", input);
});
