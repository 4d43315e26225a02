//! The check of packed bodies: what comes out, how much of it, and that the same comes out however it arrives.
//!
//! The first byte says how the body is packed, and in pieces of how many bytes it arrives. With the highest
//! bit the rest is packed by us first.
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use replicator_io::source::changefeed::webhook::{Coding, unpack};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A body may have so many bytes. Whoever packs with Zstandard may look back as far.
const BYTES_MAX: usize = 1 << 20;

/// The rest is to be packed first.
const PACK: u8 = 0x80;

/// The rest is Zstandard, not gzip.
const ZSTD: u8 = 0x40;

/// Unpacks a body; returns the number of bytes that came out, or 0 if it was refused.
///
/// # Panics
///
/// More came out than may, something else comes out when it arrives otherwise, or what was packed is lost.
pub(crate) fn packed(input: &[u8]) -> usize {
    let Some((first, body)) = input.split_first() else { return 0 };
    let coding = if first & ZSTD == 0 { Coding::Gzip } else { Coding::Zstd };
    if first & PACK == 0 {
        return unpacked(coding, body, usize::from(first & !ZSTD).max(1));
    }
    let made = match coding {
        Coding::Plain => body.to_vec(),
        Coding::Gzip => gzip(body),
        Coding::Zstd => compress_to_vec(body, CompressionLevel::Fastest),
    };
    let length = unpacked(coding, &made, usize::from(first & !(PACK | ZSTD)).max(1));
    // One that does not pay is larger than what is in it.
    if body.len() <= BYTES_MAX && made.len() <= BYTES_MAX {
        assert_eq!(unpack(coding, &made, 100, BYTES_MAX).as_deref(), Ok(body), "it is lost");
    }
    length
}

fn unpacked(coding: Coding, body: &[u8], piece: usize) -> usize {
    let unpacked = unpack(coding, body, piece, BYTES_MAX);
    if let Ok(bytes) = &unpacked {
        assert!(bytes.len() <= BYTES_MAX && body.len() <= BYTES_MAX, "more than may be");
        let whole = unpack(coding, body, body.len().max(1), BYTES_MAX);
        assert_eq!(whole.as_ref(), Ok(bytes), "in one piece it is another body");
        // No room is no reason to see anything else.
        let less = unpack(coding, body, piece, bytes.len().max(body.len()));
        assert!(less.is_err() || less.as_ref() == Ok(bytes), "with less room it is another body");
    }
    let plain = unpack(Coding::Plain, body, piece, BYTES_MAX);
    assert_eq!(plain.is_ok(), body.len() <= BYTES_MAX, "nothing else is wrong with plain bytes");
    unpacked.map_or(0, |bytes| bytes.len())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

/// Hand-made bodies.
pub(crate) fn packed_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let lines = (0..40).map(|id| {
        format!("{{\"after\":{{\"id\":{id}}},\"key\":[{id}],\"updated\":\"{id}.0000000000\"}}\n")
    });
    let lines: String = lines.collect();
    let lines = lines.as_bytes();
    let first = |first: u8, parts: &[&[u8]]| [&[first], parts.concat().as_slice()].concat();
    let (zip, zst) = (gzip(lines), compress_to_vec(lines, CompressionLevel::Fastest));
    let bomb = compress_to_vec(vec![0; 2 << 20].as_slice(), CompressionLevel::Fastest);
    // RFC 8878: a frame to be skipped, and one with a window of 3.75 TiB and an empty block.
    let skipped = b"\x5A\x2A\x4D\x18\x03\0\0\0xyz";
    let window = b"\x28\xB5\x2F\xFD\0\xFF\x01\0\0";
    vec![
        ("empty", Vec::new()),
        ("cut-short", first(7, &[&zip[..zip.len() / 2]])),
        ("largest", first(PACK | 63, &[&lines.repeat(20)])),
        ("gzip", first(1, &[&zip])),
        ("gzip-members", first(50, &[&zip, &gzip(b""), &zip])),
        ("gzip-to-be-packed", first(PACK | 3, &[lines])),
        ("zstd", first(ZSTD | 1, &[&zst])),
        ("zstd-frames", first(ZSTD | 9, &[skipped, &zst, skipped, &zst])),
        ("zstd-to-be-packed", first(PACK | ZSTD | 3, &[lines])),
        ("refused-gzip-bomb", first(63, &[&gzip(&vec![0; 2 << 20])])),
        ("refused-zstd-bomb", first(ZSTD | 63, &[&bomb])),
        ("refused-zstd-window", first(ZSTD | 2, &[window])),
        ("refused-something-behind", first(63, &[&zip, b"more"])),
        ("refused-plain", first(63, &[lines])),
    ]
}
