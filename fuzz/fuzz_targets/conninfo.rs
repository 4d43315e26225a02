//! The fuzz target of the check `conninfo`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    replicator_fuzz::check("conninfo", input);
});
