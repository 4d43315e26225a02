//! Sets of identifiers against the plainest model of them: a list of all their members.
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    GNO_MAX, Gtid, GtidBinaryError, GtidFault, GtidSet, INTERVALS_MAX, Interval, MariaGtid,
    MariaPosition, Tag, TooManyIntervals, Tsid, Uuid,
};

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

fn fault(text: &str) -> (String, GtidFault) {
    let error = text.parse::<GtidSet>().unwrap_err();
    (error.part, error.fault)
}

#[test]
fn a_set_is_printed_as_the_server_prints_it() {
    for (text, printed) in [
        ("", ""),
        (" , ,\n", ""),
        (" A : 1 - 3 : 11 : 47-49 ,\n B:5", "A:1-3:11:47-49,\nB:5"),
        ("B:2,A:5-6:1-4", "A:1-6,\nB:2"),
        ("A:3:4:1-2,A:9", "A:1-4:9"),
        ("B:Tt:7,B:5", "B:5:tt:7"),
        ("A:t_1:1-2:_x:3:5", "A:_x:3:5:t_1:1-2"),
        ("A:1-9223372036854775806", "A:1-9223372036854775806"),
    ] {
        let full = |text: &str| text.replace('A', A).replace('B', B);
        let text = full(text);
        assert_eq!(set(&text).to_string(), full(printed), "{text:?}");
    }
    assert_eq!(set(&alloc::format!("{}:1", A.to_uppercase())), set(&alloc::format!("{A}:1")));
}

#[test]
fn an_error_names_the_part_that_is_wrong() {
    use GtidFault::{Backwards, Interval, NoNumbers, Number, Uuid};
    for (text, part, wrong) in [
        ("A", "A", NoNumbers),
        ("A:1,B", "B", NoNumbers),
        ("A:", "", Interval),
        ("A:1:", "", Interval),
        ("A:1:tag", "tag", NoNumbers),
        ("A:t:u:1", "t", NoNumbers),
        ("A:0", "0", Number),
        ("A:1-0", "0", Number),
        ("A:5-4", "5-4", Backwards),
        ("A:1-2-3", "2-3", Interval),
        ("A:1-", "", Interval),
        ("A:9223372036854775807", "9223372036854775807", Number),
        ("A:1x", "1x", Interval),
        ("A:-1", "-1", Interval),
        ("A:t-g:1", "t-g", Interval),
        ("x:1", "x", Uuid),
        ("3e11fa4771ca-11e1-9e33-c80aa94295-62:1", "3e11fa4771ca-11e1-9e33-c80aa94295-62", Uuid),
    ] {
        let text = text.replace('A', A).replace('B', B);
        let part = part.replace('A', A).replace('B', B);
        assert_eq!(fault(&text), (part, wrong), "{text:?}");
    }
    let long = alloc::format!("{A}:1:{}", "é".repeat(500));
    assert_eq!(fault(&long).0.chars().count(), 80);
}

#[test]
fn one_transaction_is_one_and_no_more() {
    let gtid: Gtid = alloc::format!("{A}:tag:7").parse().unwrap();
    assert_eq!(gtid.to_string(), alloc::format!("{A}:tag:7"));
    for text in ["", "A:1-2", "A:1:3", "A:1,B:1", "A:1:t:1"] {
        let text = text.replace('A', A).replace('B', B);
        assert!(text.parse::<Gtid>().is_err(), "{text:?}");
    }
}

#[test]
fn the_number_of_runs_has_a_bound() {
    let tsid = Tsid { uuid: A.parse().unwrap(), tag: Tag::NONE };
    let mut set = GtidSet::new();
    for number in (1..).step_by(2).take(INTERVALS_MAX) {
        assert_eq!(set.insert(Gtid { tsid, gno: number }), Ok(true));
    }
    let other = Tsid { tag: Tag::new(b"t").unwrap(), ..tsid };
    assert_eq!(set.insert(Gtid { tsid: other, gno: 1 }), Err(TooManyIntervals));
    assert_eq!(set.insert(Gtid { tsid, gno: GNO_MAX }), Err(TooManyIntervals));
    // What joins two runs makes room for one.
    assert_eq!(set.insert(Gtid { tsid, gno: 2 }), Ok(true));
    assert_eq!(set.insert(Gtid { tsid: other, gno: 1 }), Ok(true));
    assert_eq!(set.remove(Gtid { tsid, gno: 2 }), Err(TooManyIntervals));
    assert_eq!(set.intervals_len(), INTERVALS_MAX);
    let more = alloc::format!("{set},{A}:u:1");
    assert_eq!(fault(&more).1, GtidFault::TooMany);
}

#[test]
fn what_a_server_wrote_is_read() {
    // PREVIOUS_GTIDS_LOG_EVENT of MySQL 9.7 with a tag, and its set as the server printed it.
    let bytes = [
        &[1, 3, 0, 0, 0, 0, 0, 1][..],
        &[0xAA; 16],
        &[0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0],
        &[0xAA; 16],
        &[4, b't', b't', 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
        &[0xE0, 0x22, 0xCE, 0x95, 0xEB, 0x19, 0x11, 0xF1],
        &[0x8A, 0x7E, 2, 0xFC, 0, 0, 0, 1],
        &[0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x19, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let printed = alloc::format!("{B}:5:tt:7,\n{}:1-24", "e022ce95-eb19-11f1-8a7e-02fc00000001");
    assert_eq!(GtidSet::from_bytes(&bytes).unwrap().to_string(), printed);
    assert_eq!(set(&printed).to_bytes(), bytes);
    for len in 0..bytes.len() {
        assert!(GtidSet::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn bytes_that_no_server_writes_are_refused() {
    let bytes = set(&alloc::format!("{A}:1-3:7")).to_bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        let GtidBinaryError { field, offset, .. } = GtidSet::from_bytes(&bytes).unwrap_err();
        (field, offset)
    };
    assert_eq!(with(7, 2), ("format", 7));
    assert_eq!(with(0, 0), ("end", 8));
    assert_eq!(with(0, 2), ("UUID", 64));
    assert_eq!(with(24, 3), ("interval", 64));
    assert_eq!(with(32, 0), ("interval", 32), "the number 0");
    assert_eq!(with(40, 1), ("interval", 32), "an empty run");
    assert_eq!(with(48, 4), ("interval", 48), "a run that is no other");
    assert_eq!(with(63, 0x80), ("interval", 48), "beyond the largest");
}

#[test]
fn a_position_of_mariadb_has_one_transaction_per_domain() {
    let mut position: MariaPosition = " 3-77-2 , 0-1-5 ".parse().unwrap();
    assert_eq!(position.to_string(), "0-1-5,3-77-2");
    assert!(position.contains(MariaGtid { domain: 0, server: 9, sequence: 5 }));
    assert!(!position.contains(MariaGtid { domain: 1, server: 1, sequence: 1 }));
    let before = position.clone();
    position.advance("0-2-6".parse().unwrap()).unwrap();
    assert_eq!(position.to_string(), "0-2-6,3-77-2");
    assert!(before.is_subset(&position) && !position.is_subset(&before));
    position.forget(0);
    assert_eq!(position.to_string(), "3-77-2");
    assert_eq!("".parse::<MariaPosition>(), Ok(MariaPosition::new()));
    for text in ["0", "0-1", "0-1-2-3", "0-1-", "+0-1-2", "0-1-2,", "4294967296-1-1", "0-1-2,0-2-3"]
    {
        assert!(text.parse::<MariaPosition>().is_err(), "{text:?}");
    }
}

/// A source out of four.
fn tsid(number: u8) -> Tsid {
    let tag = if number & 1 == 1 { Tag::new(b"odd").unwrap() } else { Tag::NONE };
    Tsid { uuid: Uuid([number >> 1; 16]), tag }
}

type Runs = Vec<(u8, u64, u64)>;

fn runs() -> impl Strategy<Value = Runs> {
    vec((0..4_u8, 1..40_u64, 0..6_u64), 0..30)
}

fn build(runs: &Runs) -> (GtidSet, BTreeSet<(u8, u64)>) {
    let (mut set, mut model) = (GtidSet::new(), BTreeSet::new());
    for (source, from, len) in runs {
        let through = from.saturating_add(*len);
        set.insert_interval(tsid(*source), Interval::new(*from, through).unwrap()).unwrap();
        model.extend((*from..=through).map(|number| (*source, number)));
    }
    (set, model)
}

fn members(set: &GtidSet) -> BTreeSet<(u8, u64)> {
    let sources = (0..4_u8).flat_map(|source| (1..60).map(move |number| (source, number)));
    sources.filter(|(source, gno)| set.contains(Gtid { tsid: tsid(*source), gno: *gno })).collect()
}

/// As few runs as there can be, and as many as it says.
fn check_runs(set: &GtidSet) {
    let all: Vec<_> = set.iter().collect();
    assert_eq!(all.len(), set.intervals_len());
    for pair in all.windows(2) {
        let ((tsid, low), (next, high)) = (pair[0], pair[1]);
        assert!(tsid < next || tsid == next && low.through.saturating_add(1) < high.from, "{set}");
    }
}

proptest! {
    #[test]
    fn sets_are_what_a_list_of_members_is(left in runs(), right in runs()) {
        let ((left, left_model), (right, right_model)) = (build(&left), build(&right));
        prop_assert_eq!(&members(&left), &left_model);
        prop_assert_eq!(left.is_subset(&right), left_model.is_subset(&right_model));
        let mut union = left.clone();
        union.union(&right).unwrap();
        prop_assert_eq!(members(&union), &left_model | &right_model);
        prop_assert!(left.is_subset(&union) && right.is_subset(&union));
        let mut rest = left.clone();
        rest.subtract(&right).unwrap();
        let left_over: BTreeSet<_> = left_model.difference(&right_model).copied().collect();
        prop_assert_eq!(members(&rest), left_over);
        for set in [&left, &right, &union, &rest] {
            check_runs(set);
            prop_assert_eq!(&set.to_string().parse::<GtidSet>().unwrap(), set);
            prop_assert_eq!(&GtidSet::from_bytes(&set.to_bytes()).unwrap(), set);
        }
        rest.union(&right).unwrap();
        prop_assert_eq!(rest, union);
    }

    #[test]
    fn one_after_the_other_is_the_same_as_runs(runs in runs()) {
        let (set, model) = build(&runs);
        let mut one_by_one = GtidSet::new();
        for (source, gno) in model.iter().rev() {
            let gtid = Gtid { tsid: tsid(*source), gno: *gno };
            prop_assert!(one_by_one.insert(gtid).unwrap());
            prop_assert!(!one_by_one.insert(gtid).unwrap());
        }
        prop_assert_eq!(&one_by_one, &set);
        for (source, gno) in &model {
            let gtid = Gtid { tsid: tsid(*source), gno: *gno };
            prop_assert!(one_by_one.remove(gtid).unwrap());
        }
        prop_assert!(one_by_one.is_empty() && one_by_one.intervals_len() == 0);
    }

    #[test]
    fn no_text_and_no_bytes_make_it_panic(text in ".{0,60}", bytes in vec(any::<u8>(), 0..80)) {
        if let Ok(set) = text.parse::<GtidSet>() {
            prop_assert_eq!(&set.to_string().parse::<GtidSet>().unwrap(), &set);
        }
        if let Ok(set) = GtidSet::from_bytes(&bytes) {
            prop_assert_eq!(&GtidSet::from_bytes(&set.to_bytes()).unwrap(), &set);
        }
        if let Ok(position) = text.parse::<MariaPosition>() {
            prop_assert_eq!(&position.to_string().parse::<MariaPosition>().unwrap(), &position);
        }
    }
}
