//! Numbers of collations → character sets, of MySQL 5.7 to 9.7 and MariaDB 10.5 to 11.8.
//!
//! Read from `information_schema` of both; where both have a number, they agree. MariaDB's collations
//! without padding have the number of the one with it and 1024 more, and those of Unicode 14 start at
//! 2048, in steps of 256 for each character set. MySQL keeps 1024 to 2047 for collations of one's own.
use super::charset::Charset;
use super::table_map::BinlogFlavor;

/// The character set of a collation, if it is known.
pub(super) fn charset(collation: u32, flavor: BinlogFlavor) -> Option<Charset> {
    let number = match (collation, flavor) {
        (1024..=2047, BinlogFlavor::MariaDb) => collation.saturating_sub(1024),
        (1024.., BinlogFlavor::MySql) => return None,
        (number, _) => number,
    };
    let after = COLLATIONS.partition_point(|(from, _, _)| u32::from(*from) <= number);
    let (_, through, charset) = COLLATIONS.get(after.checked_sub(1)?)?;
    if number <= u32::from(*through) { Some(*charset) } else { None }
}

/// First and last number, in ascending order.
const COLLATIONS: &[(u16, u16, Charset)] = &[
    (1, 1, Charset::Big5),
    (2, 2, Charset::Latin2),
    (3, 3, Charset::Dec8),
    (4, 4, Charset::Cp850),
    (5, 5, Charset::Latin1),
    (6, 6, Charset::Hp8),
    (7, 7, Charset::Koi8r),
    (8, 8, Charset::Latin1),
    (9, 9, Charset::Latin2),
    (10, 10, Charset::Swe7),
    (11, 11, Charset::Ascii),
    (12, 12, Charset::Ujis),
    (13, 13, Charset::Sjis),
    (14, 14, Charset::Cp1251),
    (15, 15, Charset::Latin1),
    (16, 16, Charset::Hebrew),
    (18, 18, Charset::Tis620),
    (19, 19, Charset::Euckr),
    (20, 20, Charset::Latin7),
    (21, 21, Charset::Latin2),
    (22, 22, Charset::Koi8u),
    (23, 23, Charset::Cp1251),
    (24, 24, Charset::Gb2312),
    (25, 25, Charset::Greek),
    (26, 26, Charset::Cp1250),
    (27, 27, Charset::Latin2),
    (28, 28, Charset::Gbk),
    (29, 29, Charset::Cp1257),
    (30, 30, Charset::Latin5),
    (31, 31, Charset::Latin1),
    (32, 32, Charset::Armscii8),
    (33, 33, Charset::Utf8),
    (34, 34, Charset::Cp1250),
    (35, 35, Charset::Utf16),
    (36, 36, Charset::Cp866),
    (37, 37, Charset::Keybcs2),
    (38, 38, Charset::Macce),
    (39, 39, Charset::Macroman),
    (40, 40, Charset::Cp852),
    (41, 42, Charset::Latin7),
    (43, 43, Charset::Macce),
    (44, 44, Charset::Cp1250),
    (45, 46, Charset::Utf8),
    (47, 49, Charset::Latin1),
    (50, 52, Charset::Cp1251),
    (53, 53, Charset::Macroman),
    (54, 55, Charset::Utf16),
    (56, 56, Charset::Utf16le),
    (57, 57, Charset::Cp1256),
    (58, 59, Charset::Cp1257),
    (60, 61, Charset::Utf32),
    (62, 62, Charset::Utf16le),
    (63, 63, Charset::Binary),
    (64, 64, Charset::Armscii8),
    (65, 65, Charset::Ascii),
    (66, 66, Charset::Cp1250),
    (67, 67, Charset::Cp1256),
    (68, 68, Charset::Cp866),
    (69, 69, Charset::Dec8),
    (70, 70, Charset::Greek),
    (71, 71, Charset::Hebrew),
    (72, 72, Charset::Hp8),
    (73, 73, Charset::Keybcs2),
    (74, 74, Charset::Koi8r),
    (75, 75, Charset::Koi8u),
    (76, 76, Charset::Utf8),
    (77, 77, Charset::Latin2),
    (78, 78, Charset::Latin5),
    (79, 79, Charset::Latin7),
    (80, 80, Charset::Cp850),
    (81, 81, Charset::Cp852),
    (82, 82, Charset::Swe7),
    (83, 83, Charset::Utf8),
    (84, 84, Charset::Big5),
    (85, 85, Charset::Euckr),
    (86, 86, Charset::Gb2312),
    (87, 87, Charset::Gbk),
    (88, 88, Charset::Sjis),
    (89, 89, Charset::Tis620),
    (90, 90, Charset::Utf16),
    (91, 91, Charset::Ujis),
    (92, 93, Charset::Geostd8),
    (94, 94, Charset::Latin1),
    (95, 96, Charset::Cp932),
    (97, 98, Charset::Eucjpms),
    (99, 99, Charset::Cp1250),
    (101, 124, Charset::Utf16),
    (128, 159, Charset::Utf16),
    (160, 183, Charset::Utf32),
    (192, 223, Charset::Utf8),
    (224, 247, Charset::Utf8),
    (248, 250, Charset::Gb18030),
    (255, 323, Charset::Utf8),
    (576, 579, Charset::Utf8),
    (608, 611, Charset::Utf8),
    (640, 642, Charset::Utf16),
    (672, 674, Charset::Utf16),
    (736, 738, Charset::Utf32),
    (2048, 2247, Charset::Utf8),
    (2304, 2503, Charset::Utf8),
    (2560, 2759, Charset::Utf16),
    (2816, 3015, Charset::Utf16),
    (3072, 3271, Charset::Utf32),
];

#[cfg(test)]
mod tests {
    use super::{COLLATIONS, Charset, charset};
    use crate::decode::binlog::table_map::BinlogFlavor;

    #[test]
    fn numbers_mean_what_their_server_says() {
        let mysql = |number| charset(number, BinlogFlavor::MySql);
        let mariadb = |number| charset(number, BinlogFlavor::MariaDb);
        for (number, expected) in [
            (0, None),
            (8, Some(Charset::Latin1)),
            (17, None),
            (33, Some(Charset::Utf8)),
            (63, Some(Charset::Binary)),
            (255, Some(Charset::Utf8)),
            (5_000, None),
        ] {
            assert_eq!((mysql(number), mariadb(number)), (expected, expected), "{number}");
        }
        assert_eq!((mysql(1_032), mariadb(1_032)), (None, Some(Charset::Latin1)));
        assert_eq!((mysql(2_304), mariadb(2_304)), (None, Some(Charset::Utf8)));
        assert_eq!(mariadb(2_816), Some(Charset::Utf16));
    }

    #[test]
    fn the_list_is_in_order() {
        assert!(COLLATIONS.iter().all(|(from, through, _)| from <= through));
        assert!(COLLATIONS.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
}
