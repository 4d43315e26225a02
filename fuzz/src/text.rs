//! Checks of the parsers of short texts: durations, sizes, positions and names.
//!
//! What is taken must survive being printed and read again; nothing may panic.
use replicator_core::model::ident::{Quoted, parse_parts};
use replicator_core::model::position::{Lsn, Position};
use replicator_core::model::time::Hlc;

// The program is no library, and these files of its command line stand on their own.
#[path = "../../bin/src/cli/bytes.rs"]
mod bytes;
#[path = "../../bin/src/cli/duration.rs"]
mod duration;

use self::bytes::parse_bytes;
use self::duration::{GoDuration, parse_duration};

/// Reads a duration of a flag; returns 1 if it is one.
///
/// # Panics
///
/// It is another one after printing and reading.
pub(crate) fn duration(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let Ok(read) = parse_duration(text) else { return 0 };
    let printed = read.to_string();
    assert_eq!(parse_duration(&printed), Ok(read), "{text:?} is printed as {printed:?}");
    if let Some(unsigned) = read.unsigned() {
        assert_eq!(GoDuration::from(unsigned), read, "{text:?} is another duration without a sign");
        assert_eq!(read.is_off(), unsigned.is_zero(), "{text:?} is off and is not");
    } else {
        assert!(read.is_off(), "{text:?} is less than nothing and not off");
    }
    1
}

/// Hand-made durations.
pub(crate) fn duration_corpus() -> Vec<(&'static str, Vec<u8>)> {
    texts(&[
        ("empty", ""),
        ("cut-short", "1m30"),
        ("largest", "2562047h47m16.854775807s"),
        ("smallest", "-2562047h47m16.854775808s"),
        ("off", "-1"),
        ("all-units", "1h2m3s4ms5us6ns"),
        ("fraction", "1.5h.5s1.s"),
        ("micro", "5\u{b5}s5\u{3bc}s"),
        ("refused-too-long", "99999999999999999999h"),
        ("refused-unit", "1d"),
    ])
}

/// Reads a size of a flag; returns 1 if it is one.
///
/// # Panics
///
/// A number of bytes is not that number.
pub(crate) fn size(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let Ok(read) = parse_bytes(text) else { return 0 };
    let printed = read.to_string();
    assert_eq!(parse_bytes(&printed), Ok(read), "{text:?} is {printed} bytes and is not");
    if let Ok(plain) = text.parse::<u64>() {
        assert_eq!(plain, read, "{text:?} is not its own number of bytes");
    }
    1
}

/// Hand-made sizes.
pub(crate) fn size_corpus() -> Vec<(&'static str, Vec<u8>)> {
    texts(&[
        ("empty", ""),
        ("cut-short", "1."),
        ("largest", "18446744073709551615"),
        ("decimal", "100MB"),
        ("binary", "1.5GiB"),
        ("blank", " 128 mib "),
        ("refused-too-large", "99999999999TiB"),
        ("refused-unit", "1KK"),
        ("refused-two-points", "1.2.3MB"),
    ])
}

/// Reads a position, as a server prints it and as we save it; returns how many of both it is.
///
/// # Panics
///
/// It is another one after printing and reading.
pub(crate) fn position(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let mut count = 0;
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn), "{text:?}");
        let sign = text.contains(['+', '-']);
        assert!(!sign, "{text:?} has a sign, which no server prints");
        count += 1;
    }
    if let Some(position) = Position::from_sortable(text) {
        let printed = position.to_sortable();
        assert_eq!(Position::from_sortable(&printed), Some(position), "{text:?}");
        // One position has one text, or texts would not sort like positions.
        assert_eq!(printed.len(), text.len(), "{text:?} is also {printed:?}");
        count += 1;
    }
    count
}

/// Hand-made positions.
pub(crate) fn position_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = texts(&[
        ("empty", ""),
        ("cut-short", "0/"),
        ("largest", "FFFFFFFF/FFFFFFFF"),
        ("usual", "0/16b3748"),
        ("refused-sign", "+0/+1"),
        ("refused-half", "0/100000000"),
        ("refused-unpadded", "10"),
    ]);
    let hlc = Position::Hlc(Hlc { nanos: u64::MAX, logical: u32::MAX });
    let lsn = Position::Lsn(Lsn(0x16B_3748));
    all.push(("sortable-hlc", hlc.to_sortable().into_bytes()));
    all.push(("sortable-lsn", lsn.to_sortable().into_bytes()));
    all
}

/// Reads a dotted name; returns how many parts it has.
///
/// # Panics
///
/// It is another one after printing and reading.
pub(crate) fn name(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let Ok(parts) = parse_parts(text) else { return 0 };
    let quoted: Vec<String> = parts.iter().map(|part| Quoted(part).to_string()).collect();
    let printed = quoted.join(".");
    assert_eq!(parse_parts(&printed).as_ref(), Ok(&parts), "{text:?} is printed as {printed:?}");
    assert!(!parts.iter().any(String::is_empty), "{text:?} has an empty part");
    parts.len()
}

/// Hand-made names.
pub(crate) fn name_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = texts(&[
        ("empty", ""),
        ("cut-short", "db.\"schema"),
        ("usual", "Db.public"),
        ("quoted", "Db.\"My \"\"odd\"\".Schema\".t"),
        ("folded", "\u{130}stanbul.\u{1e9e}"),
        ("refused-after-quote", "\"a\"b"),
    ]);
    // The server cuts names at 63 bytes; here they have no limit.
    let largest = format!("\"{}\".{}", "\"\"".repeat(63), "x".repeat(1_000));
    all.push(("largest", largest.into_bytes()));
    all
}

pub(crate) fn texts(all: &[(&'static str, &str)]) -> Vec<(&'static str, Vec<u8>)> {
    all.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
}
