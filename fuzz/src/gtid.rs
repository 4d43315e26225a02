//! The check of sets and positions of transaction identifiers, as texts and as bytes.
use std::fmt::{Debug, Display};
use std::str::FromStr;

use replicator_core::model::gtid::{Gtid, GtidSet, MariaGtid, MariaPosition, Uuid};

use crate::text::texts;

/// Reads the input as everything that it may be; returns as how many things it is taken.
///
/// # Panics
///
/// One is another one after being written and read, or a set is not what its transactions are.
pub(crate) fn gtid(input: &[u8]) -> usize {
    let mut count = 0;
    if let Ok(text) = std::str::from_utf8(input) {
        count += again::<Uuid>(text) + again::<Gtid>(text) + again::<GtidSet>(text);
        count += again::<MariaGtid>(text) + again::<MariaPosition>(text);
        if let Ok(set) = text.parse() {
            check_set(&set);
        }
    }
    if let Ok(set) = GtidSet::from_bytes(input) {
        check_set(&set);
        count += 1;
    }
    // No text is the empty set, and no input.
    if input.is_empty() { 0 } else { count }
}

fn again<T: FromStr + Display + Debug + PartialEq>(text: &str) -> usize {
    let Ok(read) = text.parse::<T>() else { return 0 };
    let printed = read.to_string();
    assert_eq!(printed.parse().ok().as_ref(), Some(&read), "{text:?} is printed as {printed:?}");
    1
}

fn check_set(set: &GtidSet) {
    assert_eq!(GtidSet::from_bytes(&set.to_bytes()).as_ref(), Ok(set), "{set}");
    assert_eq!(set.iter().count(), set.intervals_len(), "{set}");
    let mut lower = GtidSet::new();
    for (tsid, interval) in set.iter() {
        let ends = [interval.from, interval.through].map(|gno| Gtid { tsid, gno });
        assert!(ends.iter().all(|gtid| set.contains(*gtid)), "{set}");
        lower.insert_interval(tsid, interval).expect("it is no larger");
        assert!(lower.is_subset(set), "{set}");
    }
    assert_eq!(&lower, set);
    // A hole in the middle of each run, if there is room for it, and back.
    for (tsid, interval) in set.iter() {
        let gtid = Gtid { tsid, gno: interval.from.midpoint(interval.through) };
        let Ok(removed) = lower.remove(gtid) else { continue };
        assert!(removed && !lower.contains(gtid) && lower.is_subset(set), "{set}");
        assert_eq!(lower.insert(gtid), Ok(true), "{set}");
    }
    lower.subtract(set).expect("nothing is split");
    assert!(lower.is_empty() && lower.intervals_len() == 0, "{set}");
}

/// Hand-made sets.
pub(crate) fn gtid_corpus() -> Vec<(&'static str, Vec<u8>)> {
    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let mut all = texts(&[
        ("empty", ""),
        ("cut-short", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-"),
        ("usual", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:11:47-49"),
        (
            "tags",
            " 3E11FA47-71CA-11E1-9E33-C80AA9429562 : t : 5 : _u:1-2,\n\
          aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-3",
        ),
        ("one", "3e11fa47-71ca-11e1-9e33-c80aa9429562:t:7"),
        ("uuid", "3e11fa47-71ca-11e1-9e33-c80aa9429562"),
        ("mariadb", "0-1-5,4294967295-4294967295-18446744073709551615"),
        ("refused-number", "3e11fa47-71ca-11e1-9e33-c80aa9429562:9223372036854775807"),
        ("refused-domain-twice", "0-1-5,0-2-6"),
    ]);
    let set: GtidSet = format!("{A}:1-5:9:tag:1").parse().expect("a set");
    all.push(("binary", set.to_bytes()));
    let untagged: GtidSet = format!("{A}:1-5:9").parse().expect("a set");
    all.push(("binary-untagged", untagged.to_bytes()));
    let mut cut = set.to_bytes();
    cut.pop();
    all.push(("refused-binary", cut));
    let runs: String = (0..400).map(|run| format!(":{}-{}", run * 10 + 1, run * 10 + 5)).collect();
    all.push(("largest", format!("{A}{runs}").into_bytes()));
    all
}
