//! The fuzz target of the pgoutput decoder.
#![no_main]
