//! Bytes → nouns. Pure, never panics, fuzzed.
