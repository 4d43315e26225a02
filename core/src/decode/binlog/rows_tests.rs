//! Row events that were written, read again; and what a broken one leads to.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::integer_division,
    reason = "a test may fail by a panic"
)]
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as many;
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::rows::{Images, RowsEvent, RowsKind};
use super::rows_encode::{RowToSend, encode_rows};
use super::table_map::{BinlogFlavor, KeyPart, MapColumn, TableMap, code};
use super::table_map_encode::encode_table_map;
use super::value_error::{ColumnFault, RowsError, ValueFault};
use super::{KnownColumn, NoDates, RowPlan};
use crate::model::row::{Cell, RowBuilder};

const WRITE: RowsKind = RowsKind::of_code(30).unwrap();
const UPDATE: RowsKind = RowsKind::of_code(31).unwrap();
const PARTIAL: RowsKind = RowsKind::of_code(39).unwrap();

fn column(code: u8, meta: [u8; 2]) -> MapColumn {
    MapColumn { code, meta, nullable: true, ..MapColumn::default() }
}

fn map(columns: Vec<MapColumn>) -> TableMap {
    let (schema, table) = ("zoo".to_owned(), "t".to_owned());
    TableMap { table_id: 7, flags: 1, schema, table, columns, primary_key: Vec::new() }
}

fn cells(cells: &[Cell<'_>]) -> Vec<u8> {
    let mut builder = RowBuilder::new();
    cells.iter().for_each(|cell| builder.push(*cell));
    builder.into_bytes().to_vec()
}

/// Reads all rows of an event into one buffer.
fn read(map: &TableMap, kind: RowsKind, body: &[u8]) -> Result<(Vec<Images>, Vec<u8>), RowsError> {
    let plan = RowPlan::new(map, BinlogFlavor::MySql, &[], NoDates::Keep)?;
    let event = RowsEvent::parse(kind, 10, body)?;
    let mut rows = plan.rows(&event)?;
    let (mut images, mut out) = (Vec::new(), Vec::new());
    while let Some(row) = rows.read_next(&mut out)? {
        images.push(row);
    }
    Ok((images, out))
}

/// A column, and a text of it.
fn value() -> BoxedStrategy<(MapColumn, String)> {
    prop_oneof![whole_number(), other_number(), moment(), text(), document()].boxed()
}

fn whole_number() -> BoxedStrategy<(MapColumn, String)> {
    let kinds = prop_oneof![
        Just((code::TINY, 8)),
        Just((code::SHORT, 16)),
        Just((code::INT24, 24)),
        Just((code::LONG, 32)),
        Just((code::LONGLONG, 64)),
    ];
    let number = (kinds, any::<bool>(), any::<u64>());
    let signed = number.prop_map(|((code, bits), unsigned, number)| {
        let number = number >> (64 - bits);
        let sign = i128::from(number >> (bits - 1)) << bits;
        let number = i128::from(number) - if unsigned { 0 } else { sign };
        let column = MapColumn { unsigned: Some(unsigned), ..column(code, [0, 0]) };
        (column, number.to_string())
    });
    let year = (1901..=2155_u16).prop_map(|year| {
        (MapColumn { unsigned: Some(true), ..column(code::YEAR, [0, 0]) }, year.to_string())
    });
    let bits = (1..=64_usize, any::<u64>()).prop_map(|(bits, number)| {
        let meta = [u8::try_from(bits % 8).unwrap(), u8::try_from(bits / 8).unwrap()];
        let text = format!("{number:064b}").split_off(64 - bits);
        (column(code::BIT, meta), text)
    });
    prop_oneof![signed, year, bits].boxed()
}

fn other_number() -> BoxedStrategy<(MapColumn, String)> {
    let number = |code| MapColumn { unsigned: Some(false), ..column(code, [8, 0]) };
    let double = proptest::num::f64::NORMAL.prop_map(move |double| {
        let plain = (1e-5..1e16).contains(&double.abs());
        let text = if plain { format!("{double}") } else { format!("{double:e}") };
        (number(code::DOUBLE), text)
    });
    let float = (-1000..1000_i16)
        .prop_map(move |float| (number(code::FLOAT), f32::from(float).to_string()));
    let decimal = (1..=65_u8, 0..=30_u8, any::<bool>(), "[0-9]{65}").prop_map(
        |(precision, scale, negative, digits)| {
            let scale = scale.min(precision);
            let (digits, _) = digits.split_at(precision.into());
            let (whole, fraction) = digits.split_at((precision - scale).into());
            let whole = whole.trim_start_matches('0');
            let zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
            let sign = if negative && !zero { "-" } else { "" };
            let whole = if whole.is_empty() { "0" } else { whole };
            let point = if scale > 0 { "." } else { "" };
            let column =
                MapColumn { unsigned: Some(false), ..column(code::NEWDECIMAL, [precision, scale]) };
            (column, format!("{sign}{whole}{point}{fraction}"))
        },
    );
    prop_oneof![double, float, decimal].boxed()
}

fn moment() -> BoxedStrategy<(MapColumn, String)> {
    let fraction = |digits: u8, micros: u32| {
        let text = format!(".{micros:06}");
        if digits == 0 {
            String::new()
        } else {
            text.split_at(usize::from(digits) + 1).0.to_owned()
        }
    };
    let clock = (0..24_u32, 0..60_u32, 0..60_u32);
    let date = (1000..=9999_u32, 1..=12_u32, 1..=28_u32)
        .prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"));
    let recent = (1971..=2105_u32, 1..=12_u32, 1..=28_u32)
        .prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"));
    let time = (clock, 0..=6_u8, 0..1_000_000_u32).prop_map(
        move |((hour, minute, second), digits, micros)| {
            (digits, format!("{hour:02}:{minute:02}:{second:02}{}", fraction(digits, micros)))
        },
    );
    let days = date.clone().prop_map(|date| (column(code::DATE, [0, 0]), date));
    let datetimes = (date, time.clone()).prop_map(|(date, (digits, time))| {
        (column(code::DATETIME2, [digits, 0]), format!("{date} {time}"))
    });
    let timestamps = (recent, time).prop_map(|(date, (digits, time))| {
        (column(code::TIMESTAMP2, [digits, 0]), format!("{date} {time}+00"))
    });
    let spans = (0..=838_u32, 0..60_u32, 1..60_u32, any::<bool>(), 0..=6_u8, 0..1_000_000_u32)
        .prop_map(move |(hours, minutes, seconds, negative, digits, micros)| {
            let sign = if negative { "-" } else { "" };
            let fraction = fraction(digits, micros);
            let text = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}");
            (column(code::TIME2, [digits, 0]), text)
        });
    prop_oneof![days, datetimes, timestamps, spans].boxed()
}

fn text() -> BoxedStrategy<(MapColumn, String)> {
    let kinds = prop_oneof![
        Just((code::VARCHAR, 40_u16.to_le_bytes())),
        Just((code::VARCHAR, 400_u16.to_le_bytes())),
        Just((code::STRING, [254, 40])),
        // 400 bytes: the two highest bits stand upside down in the type.
        Just((code::STRING, [254 ^ 0x10, 144])),
        Just((code::BLOB, [1, 0])),
        Just((code::BLOB, [4, 0])),
    ];
    let texts = (kinds.clone(), "\\PC{0,9}").prop_map(|((code, meta), text)| {
        (MapColumn { collation: Some(45), ..column(code, meta) }, text)
    });
    let bytes = (kinds, many(any::<u8>(), 40)).prop_map(|((code, meta), bytes)| {
        let collation = Some(63);
        let column = MapColumn { collation, ..column(code, meta) };
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let zeros = if code == code::STRING { usize::from(column.string_len()) - 40 } else { 0 };
        (column, format!("\\x{hex}{}", "00".repeat(zeros)))
    });
    let labels = [&b"one"[..], b"two", "drei ü".as_bytes()].map(<[u8]>::to_vec).to_vec();
    let set = prop_oneof![Just("one,drei ü"), Just(""), Just("two")];
    let set_labels = labels.clone();
    let sets = set.prop_map(move |text| {
        let column = column(code::STRING, [code::SET, 1]);
        let labels = Some(set_labels.clone());
        (MapColumn { collation: Some(45), labels, ..column }, text.to_owned())
    });
    let one = prop_oneof![Just("one"), Just(""), Just("drei ü")];
    let enums = one.prop_map(move |text| {
        let column = column(code::STRING, [code::ENUM, 2]);
        let labels = Some(labels.clone());
        (MapColumn { collation: Some(45), labels, ..column }, text.to_owned())
    });
    prop_oneof![texts, bytes, sets, enums].boxed()
}

/// Documents as the server prints them.
fn document() -> BoxedStrategy<(MapColumn, String)> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<i16>().prop_map(|number| number.to_string()),
        (-99..99_i8).prop_map(|number| format!("{number}.5")),
        "[a-zé ]{0,200}".prop_map(|text| format!("\"{text}\"")),
    ];
    let node = leaf.prop_recursive(4, 40, 5, |node| {
        let arrays = many(node.clone(), 0..5).prop_map(|nodes| format!("[{}]", nodes.join(", ")));
        let objects = many(node, 0..5).prop_map(|nodes| {
            let member =
                |(index, node): (usize, &String)| format!("\"{}\": {node}", "key".repeat(index));
            let members: Vec<String> = nodes.iter().enumerate().map(member).collect();
            format!("{{{}}}", members.join(", "))
        });
        prop_oneof![arrays, objects]
    });
    // Above 64 KiB the large form begins.
    let documents = (node, 0..30_u8).prop_map(|(node, long)| {
        if long > 0 { node } else { format!("[{node}, \"{}\"]", "x".repeat(66_000)) }
    });
    documents.prop_map(|text| (column(code::JSON, [4, 0]), text)).boxed()
}

fn column_name() -> impl Strategy<Value = String> {
    "[a-zé]{1,9}"
}

/// The cells of a row: some values NULL, some not sent.
fn row<'a>(values: &'a [(MapColumn, String)], nulls: &[u8], sent: &[bool]) -> Vec<Cell<'a>> {
    let cell = |((_, text), (null, sent)): (&'a (MapColumn, String), (&u8, &bool))| match null {
        _ if !sent => Cell::Unchanged,
        0 => Cell::Null,
        _ => Cell::Text(text.as_bytes()),
    };
    values.iter().zip(nulls.iter().zip(sent)).map(cell).collect()
}

proptest! {
    #[test]
    fn rows_come_back_as_they_were_written(
        values in many(value(), 1..12),
        nulls in many(0..4_u8, 36),
        sent in many(proptest::bool::weighted(0.8), 24),
        flags in any::<u16>(),
    ) {
        let map = map(values.iter().map(|(column, _)| column.clone()).collect());
        let n = values.len();
        // What is sent is the same in all rows; what is NULL is not.
        let sent = [&[true][..], &sent].concat();
        let before = row(&values, &nulls, &sent);
        let after = row(&values, &nulls[12..], &sent[12..]);
        let third = row(&values, &nulls[24..], &sent[12..]);
        let rows = [
            RowToSend { before: before.clone(), after: after.clone() },
            RowToSend { before: before.clone(), after: third.clone() },
        ];
        for (kind, written) in [
            (WRITE, [cells(&after), cells(&third)].concat()),
            (UPDATE, [cells(&before), cells(&after), cells(&before), cells(&third)].concat()),
            (PARTIAL, [cells(&before), cells(&after), cells(&before), cells(&third)].concat()),
        ] {
            let body = encode_rows(&map, kind, 10, flags, &rows);
            if kind == WRITE && !sent[12..][..n].contains(&true) {
                continue;
            }
            let (images, out) = read(&map, kind, &body).unwrap();
            prop_assert_eq!(images.len(), 2);
            prop_assert_eq!(&out, &written);
        }
    }

    #[test]
    fn maps_come_back_as_they_were_written(
        values in many((value(), column_name(), any::<bool>()), 0..20),
        key in option::of((0..20_u16, 0..300_u32)),
        flavor in prop_oneof![Just(BinlogFlavor::MySql), Just(BinlogFlavor::MariaDb)],
        post_header in prop_oneof![Just(6_u8), Just(8)],
    ) {
        let columns: Vec<MapColumn> = values
            .into_iter()
            .map(|((column, _), name, visible)| {
                MapColumn { name: Some(name), visible: Some(visible), ..column }
            })
            .collect();
        let key = key.filter(|(column, _)| usize::from(*column) < columns.len());
        let primary_key = key.map(|(column, prefix)| KeyPart { column, prefix });
        let map = TableMap { primary_key: primary_key.into_iter().collect(), ..map(columns) };
        let body = encode_table_map(&map, post_header, flavor);
        prop_assert_eq!(TableMap::parse(&body, post_header, flavor), Ok(map));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_is_cut_off_is_an_error(values in many(value(), 1..6), nulls in many(0..4_u8, 6)) {
        let map = map(values.iter().map(|(column, _)| column.clone()).collect());
        let after = row(&values, &nulls, &[true; 6]);
        let row = RowToSend { before: after.clone(), after };
        let start = encode_rows(&map, UPDATE, 10, 0, &[]).len();
        let body = encode_rows(&map, UPDATE, 10, 0, &[row]);
        // A long document is as good as a short one.
        for len in (0..body.len()).rev().take(300).chain(0..body.len().min(300)) {
            let result = read(&map, UPDATE, &body[..len]);
            prop_assert!(result.is_err() || len == start, "{len} of {}", body.len());
        }
        let body = encode_table_map(&map, 8, BinlogFlavor::MySql);
        for len in 0..body.len() {
            // Some of its optional fields may be missing.
            if let Ok(less) = TableMap::parse(&body[..len], 8, BinlogFlavor::MySql) {
                prop_assert_eq!(less.columns.len(), map.columns.len());
            }
        }
    }
}

#[test]
fn the_hint_says_what_to_set_when_a_map_says_too_little() {
    let plan = |column: MapColumn, known: &[KnownColumn]| {
        RowPlan::new(&map(vec![column]), BinlogFlavor::MySql, known, NoDates::Refuse)
    };
    for (code, meta, fault) in [
        (code::LONG, [0, 0], ColumnFault::NoSign),
        (code::VARCHAR, [9, 0], ColumnFault::NoCharset),
        (code::STRING, [code::ENUM, 1], ColumnFault::NoLabels),
    ] {
        let error = plan(column(code, meta), &[]).unwrap_err();
        assert!(error.hint().unwrap().contains("binlog_row_metadata=FULL"), "{error}");
        assert!(matches!(error, RowsError::Column { fault: found, .. } if found == fault));
        let known = KnownColumn::new("c", "enum('a') unsigned", Some("latin1"));
        assert!(plan(column(code, meta), &[known]).is_ok());
    }
    let unknown = MapColumn { collation: Some(1_500), ..column(code::BLOB, [2, 0]) };
    let error = plan(unknown, &[]).unwrap_err();
    assert_eq!(error.to_string(), "column \"#1\" of table zoo.t: collation 1500 is not known");
    let error = plan(column(243, [0, 0]), &[]).unwrap_err();
    assert_eq!(error.to_string(), "column \"#1\" of table zoo.t: type code 243 is not known");
}

#[test]
fn rows_of_another_table_are_refused() {
    let one = map(vec![column(code::DATE, [0, 0])]);
    let row = RowToSend { before: Vec::new(), after: vec![Cell::Text(b"2024-02-29")] };
    let body = encode_rows(&one, WRITE, 10, 0, &[row]);
    assert!(read(&one, WRITE, &body).is_ok());
    let other = TableMap { table_id: 8, ..one };
    assert!(matches!(read(&other, WRITE, &body), Err(RowsError::OtherTable { found: 7, .. })));
    let wider = map(vec![column(code::DATE, [0, 0]), column(code::DATE, [0, 0])]);
    assert!(matches!(read(&wider, WRITE, &body), Err(RowsError::Columns { found: 1, .. })));
}

#[test]
fn a_row_of_nothing_but_defaults_is_one_row() {
    let map = map(vec![column(code::DATE, [0, 0])]);
    let row = RowToSend { before: Vec::new(), after: vec![Cell::Unchanged] };
    let body = encode_rows(&map, WRITE, 10, 0, &[row]);
    let (images, out) = read(&map, WRITE, &body).unwrap();
    assert_eq!((images.len(), &out[..]), (1, &b"u"[..]));
}

#[test]
fn changes_of_a_document_need_the_document() {
    let map = map(vec![column(code::LONG, [0, 0]), column(code::JSON, [4, 0])]);
    let map = TableMap {
        columns: map
            .columns
            .into_iter()
            .map(|column| MapColumn { unsigned: Some(false), ..column })
            .collect(),
        ..map
    };
    let document = super::json_encode::document(r#"{"a": [1, 2]}"#).unwrap();
    let value = super::json_encode::document("[3]").unwrap();
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let path = b"$.a[1]";
    let change = [&[0, 6][..], path, &[u8::try_from(value.len()).unwrap()], &value].concat();
    let before = [&b"\0\x01\0\0\0"[..], &len(&document), &document].concat();
    let after = [&b"\x01\x01\0\x01\0\0\0"[..], &len(&change), &change].concat();
    let front = b"\x07\0\0\0\0\0\0\0\x02\0\x02";
    let body = [&front[..], b"\x03\x03", &before, &after].concat();
    let (images, out) = read(&map, PARTIAL, &body).unwrap();
    let expected = [Cell::Text(b"1"), Cell::Text(br#"{"a": [1, [3]]}"#)];
    assert_eq!(out[images[0].after.clone().unwrap()], cells(&expected));

    // The row before the change without its document.
    let body = [&front[..], b"\x01\x03", b"\0\x01\0\0\0", &after].concat();
    let error = read(&map, PARTIAL, &body).unwrap_err();
    assert!(matches!(error, RowsError::Value { fault: ValueFault::JsonBase, .. }), "{error}");
    assert!(error.hint().unwrap().contains("binlog_row_value_options=''"));
}
