//! Bodies that are whole, cut off, larger than they look, or nothing at all.
use std::io::Write as _;
use std::sync::Arc;

use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, HeaderValue};
use flate2::Compression;
use flate2::write::GzEncoder;
use replicator_core::decode::changefeed::Limits;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tokio::sync::Semaphore;

use super::{Coding, Collected, UNIT, Unpacker};

/// What `zstd -19 --check` makes of [`rows`], and `zstd -1 --check` where it does not know the length.
const FILE_ZST: &[u8] = include_bytes!("file.zst");
const STREAM_ZST: &[u8] = include_bytes!("stream.zst");

const LIMIT: usize = 1 << 20;

fn rows() -> String {
    (0..40_000).map(|row| format!("row {}\n", row % 97)).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Unpacks a body that comes in pieces, where there is room for twice the limit. Returns the status of the
/// refusal if it is refused. In the end all room is free again.
fn unpack(coding: Coding, body: &[u8], piece: usize) -> Result<Vec<u8>, u16> {
    unpack_with(coding, body, piece, LIMIT)
}

fn unpack_with(coding: Coding, body: &[u8], piece: usize, limit: usize) -> Result<Vec<u8>, u16> {
    let units = 2 * limit / UNIT;
    let room = Arc::new(Semaphore::new(units));
    let mut unpacker = Unpacker::new(coding, Collected::new(limit, Arc::clone(&room)));
    let unpacked = body.chunks(piece).try_for_each(|piece| unpacker.push(piece));
    let unpacked = unpacked.and_then(|()| unpacker.finish());
    let unpacked = unpacked.map_err(|refusal| refusal.status.as_u16()).map(|(bytes, taken)| {
        let taken = taken.map_or(0, |taken| taken.num_permits());
        assert_eq!(taken, bytes.len().div_ceil(UNIT));
        bytes.to_vec()
    });
    assert_eq!(room.available_permits(), units);
    unpacked
}

fn check(coding: Coding, body: &[u8], expected: Result<&[u8], u16>) {
    for piece in [1, 7, 4096, usize::MAX >> 1] {
        let unpacked = unpack(coding, body, piece);
        assert_eq!(unpacked.as_deref().map_err(|status| *status), expected, "{coding:?} {piece}");
    }
}

#[test]
fn w30_a11_what_was_packed_comes_out() {
    let rows = rows();
    let rows = rows.as_bytes();
    for bytes in [&b"{}"[..], rows, &rows[..131_073], b""] {
        check(Coding::Plain, bytes, Ok(bytes));
        check(Coding::Gzip, &gzip(bytes), Ok(bytes));
        check(Coding::Zstd, &zstd(bytes), Ok(bytes));
    }
    check(Coding::Zstd, FILE_ZST, Ok(rows));
    check(Coding::Zstd, STREAM_ZST, Ok(rows));
}

#[test]
fn a11_a_body_of_64_mib_is_taken_and_one_byte_more_is_not() {
    let limit = Limits::default().body_bytes_max;
    assert_eq!(limit, 64 << 20);
    let body = vec![b' '; limit + 1];
    for coding in [Coding::Plain, Coding::Gzip, Coding::Zstd] {
        let packed = match coding {
            Coding::Plain => <[u8]>::to_vec,
            Coding::Gzip => gzip,
            Coding::Zstd => zstd,
        };
        let taken = unpack_with(coding, &packed(&body[..limit]), 64 << 10, limit);
        assert_eq!(taken.map(|bytes| bytes.len()), Ok(limit), "{coding:?}");
        let refused = unpack_with(coding, &packed(&body), 64 << 10, limit);
        assert_eq!(refused.map(|bytes| bytes.len()), Err(413), "{coding:?}");
    }
}

#[test]
fn nothing_is_nothing_however_it_is_packed() {
    for coding in [Coding::Plain, Coding::Gzip, Coding::Zstd] {
        check(coding, b"", Ok(b""));
    }
}

#[test]
fn several_members_are_one_body() {
    let two = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
    check(Coding::Gzip, &two, Ok(b"one two"));
    let skipped = b"\x5A\x2A\x4D\x18\x03\x00\x00\x00xyz".to_vec();
    let two = [skipped.clone(), zstd(b"one "), skipped.clone(), zstd(b"two"), skipped].concat();
    check(Coding::Zstd, &two, Ok(b"one two"));
}

#[test]
fn a_body_that_is_cut_off_is_refused() {
    let rows = rows();
    for (coding, body) in [
        (Coding::Gzip, gzip(rows.as_bytes())),
        (Coding::Gzip, gzip(b"{}")),
        (Coding::Zstd, FILE_ZST.to_vec()),
        (Coding::Zstd, zstd(b"{}")),
    ] {
        for end in (1..body.len()).rev().take(40).chain(1..40.min(body.len())) {
            assert_eq!(unpack(coding, &body[..end], 4096), Err(400), "{coding:?} {end}");
        }
    }
    // Between the members, too.
    let whole = gzip(b"one");
    for more in 1..whole.len() {
        let body = [whole.as_slice(), &whole[..more]].concat();
        assert_eq!(unpack(Coding::Gzip, &body, 4096), Err(400), "{more}");
    }
}

#[test]
fn what_is_not_packed_is_refused() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        check(coding, b"{\"payload\":[]}", Err(400));
    }
    for mut broken in [gzip(b"some rows"), FILE_ZST.to_vec()] {
        let coding = if broken.starts_with(b"\x1F\x8B") { Coding::Gzip } else { Coding::Zstd };
        let behind = [broken.as_slice(), b"more"].concat();
        check(coding, &behind, Err(400));
        // The checksum is the last thing but the length.
        let at = broken.len() - 6;
        broken[at] ^= 1;
        check(coding, &broken, Err(400));
    }
}

#[test]
fn w30_a_body_that_unpacks_to_more_than_we_take_is_refused_early() {
    let zeros = vec![0; 64 << 20];
    for (coding, bomb) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd(&zeros))] {
        let room = Arc::new(Semaphore::new(LIMIT));
        let mut unpacker = Unpacker::new(coding, Collected::new(LIMIT, room));
        let mut pushed = 0;
        let refused = bomb.chunks(16).find_map(|piece| {
            pushed += piece.len();
            unpacker.push(piece).err()
        });
        assert_eq!(refused.map(|refusal| refusal.status.as_u16()), Some(413));
        assert!(pushed < bomb.len() / 20, "{coding:?}: {pushed} of {}", bomb.len());
    }
    // Exactly the limit is taken.
    let most = vec![b' '; LIMIT];
    for (coding, body) in [(Coding::Gzip, gzip(&most)), (Coding::Zstd, zstd(&most))] {
        check(coding, &body, Ok(&most));
    }
    // Packed bytes count, too: members without anything in them can go on for ever.
    let empty = gzip(b"").repeat(LIMIT / 20 + 1);
    assert_eq!(unpack(Coding::Gzip, &empty, 4096), Err(413));
}

#[test]
fn what_a_frame_may_refer_to_has_limits_of_its_own() {
    // A window of 3.75 TiB, and one of 2 GiB, both without anything in them.
    for window in [0xFF, 0xA8] {
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, window, 0x01, 0x00, 0x00];
        check(Coding::Zstd, &frame, Err(400));
    }
    // One of 1 MiB, for which there is no room beside the others.
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x50, 0x01, 0x00, 0x00];
    check(Coding::Zstd, &frame, Ok(b""));
    let room = Arc::new(Semaphore::new(512));
    let mut unpacker = Unpacker::new(Coding::Zstd, Collected::new(LIMIT, room));
    let refused = unpacker.push(&frame).unwrap_err();
    assert_eq!(refused.status.as_u16(), 429);
    // A dictionary that we do not have.
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x01, 0x00, 0x07, 0x01, 0x00, 0x00];
    check(Coding::Zstd, &frame, Err(400));
    // A block of a kind that does not exist.
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x00, 0x07, 0x00, 0x00];
    check(Coding::Zstd, &frame, Err(400));
}

#[test]
fn bytes_that_were_changed_never_do_harm() {
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let small = rows()[..20_000].to_owned();
    let mut refused = 0;
    for (coding, body) in [
        (Coding::Gzip, gzip(small.as_bytes())),
        (Coding::Zstd, zstd(small.as_bytes())),
        (Coding::Zstd, FILE_ZST.to_vec()),
        (Coding::Zstd, STREAM_ZST.to_vec()),
    ] {
        for _ in 0..500 {
            let mut body = body.clone();
            for _ in 0..=random(3) {
                let at = random(body.len());
                body[at] = u8::try_from(random(256)).unwrap();
            }
            refused += usize::from(unpack(coding, &body, 4096).is_err());
        }
    }
    assert!(1_000 < refused, "{refused}");
}

#[test]
fn one_coding_at_a_time_is_understood() {
    for (values, coding) in [
        (&[][..], Some(Coding::Plain)),
        (&["identity"], Some(Coding::Plain)),
        (&[""], Some(Coding::Plain)),
        (&["gzip"], Some(Coding::Gzip)),
        (&["X-GZip"], Some(Coding::Gzip)),
        (&["identity, zstd"], Some(Coding::Zstd)),
        (&["br"], None),
        (&["gzip, gzip"], None),
        (&["gzip", "zstd"], None),
        (&["gzip;q=1"], None),
        (&["gz\u{ef}p"], None),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        assert_eq!(Coding::of(&headers), coding, "{values:?}");
    }
}
