//! The fuzz target of the check `mysql_conninfo`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    replicator_fuzz::check("mysql_conninfo", input);
});
