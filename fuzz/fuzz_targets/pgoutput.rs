//! The fuzz target of the pgoutput decoder.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    replicator_fuzz::pgoutput(input);
});
