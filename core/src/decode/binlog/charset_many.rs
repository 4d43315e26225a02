//! Character sets of several bytes for a character: tables, rows of other tables, and exceptions.
use alloc::vec::Vec;

use super::charset::{at, put_char};

static JIS: &[u8] = include_bytes!("charset/jis.bin");
static EUCJPMS: &[u8] = include_bytes!("charset/eucjpms.bin");
static CP932: &[u8] = include_bytes!("charset/cp932.bin");
static GB: &[u8] = include_bytes!("charset/gb.bin");
static GBK: &[u8] = include_bytes!("charset/gbk.bin");
static GB2312: &[u8] = include_bytes!("charset/gb2312.bin");
static GB18030: &[u8] = include_bytes!("charset/gb18030.bin");
static BIG5: &[u8] = include_bytes!("charset/big5.bin");
static EUCKR: &[u8] = include_bytes!("charset/euckr.bin");

/// Rows of JIS X 0208 in sjis, and cells of a row.
const JIS_ROWS: usize = 84;
const JIS_CELLS: usize = 94;
/// Trailing bytes of a leading one, in the tables of Chinese.
const TRAILS: usize = 191;
/// Codes of four bytes that stand for characters below 10000, and the first one of those above.
const FOUR_LOW: usize = 39_420;
const FOUR_HIGH: usize = 189_000;

/// A character set of several bytes for a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    Big5,
    Cp932,
    Eucjpms,
    Euckr,
    Gb18030,
    Gb2312,
    Gbk,
    Sjis,
    Ujis,
}

/// Appends a text in UTF-8.
pub(super) fn put(charset: Many, out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let mut rest = text;
    while let Some((lead, after)) = rest.split_first() {
        if lead.is_ascii() {
            out.push(*lead);
            rest = after;
            continue;
        }
        let (c, after) = next(charset, *lead, after)?;
        put_char(out, c);
        rest = after;
    }
    Some(())
}

/// The character of a leading byte, and what follows.
fn next(charset: Many, lead: u8, rest: &[u8]) -> Option<(char, &[u8])> {
    let shifted = matches!(charset, Many::Sjis | Many::Cp932);
    if shifted && let Some(kana) = kana(lead) {
        return Some((kana, rest));
    }
    let (trail, rest) = rest.split_first()?;
    let grid = |leads: u8, trails: u8, width: usize| {
        let row = usize::from(lead.checked_sub(leads)?);
        let cell = usize::from(trail.checked_sub(trails)?);
        let index = row.checked_mul(width)?.checked_add(cell)?;
        if cell < width { Some(index) } else { None }
    };
    let c = match charset {
        Many::Big5 => at(BIG5, grid(0xa1, 0x40, TRAILS)?)?,
        Many::Euckr => at(EUCKR, grid(0x81, 0x41, 190)?)?,
        Many::Gbk => gbk(grid(0x81, 0x40, TRAILS)?)?,
        Many::Gb2312 => {
            let inside = (0xa1..=0xf7).contains(&lead) && 0xa1 <= *trail;
            let index = grid(0x81, 0x40, TRAILS).filter(|_| inside)?;
            or_exception(GB2312, index, gbk(index))?
        }
        Many::Gb18030 if trail.is_ascii_digit() => return four(lead, *trail, rest),
        Many::Gb18030 => at(GB, grid(0x81, 0x40, TRAILS)?)?,
        Many::Ujis | Many::Eucjpms if lead == 0x8e => kana(*trail)?,
        Many::Ujis | Many::Eucjpms => return euc(charset, lead, *trail, rest),
        Many::Sjis => at(JIS, shifted_index(lead, *trail).filter(|index| is_sjis(*index))?)?,
        Many::Cp932 => {
            let index = shifted_index(lead, *trail)?;
            let plain = if is_sjis(index) { at(JIS, index) } else { None };
            or_exception(CP932, index, plain)?
        }
    };
    Some((c, rest))
}

/// Half-width katakana.
fn kana(byte: u8) -> Option<char> {
    let index = byte.checked_sub(0xa1).filter(|index| *index < 63)?;
    char::from_u32(0xff61_u32.checked_add(index.into())?)
}

fn gbk(index: usize) -> Option<char> {
    or_exception(GBK, index, at(GB, index))
}

/// EUC: two planes of rows of cells, the second one behind 8F.
fn euc(charset: Many, lead: u8, trail: u8, rest: &[u8]) -> Option<(char, &[u8])> {
    let (plane, lead, trail, rest) = match lead {
        0x8f => {
            let (third, rest) = rest.split_first()?;
            (1, trail, *third, rest)
        }
        lead => (0, lead, trail, rest),
    };
    let row = usize::from(lead.checked_sub(0xa1)?);
    let cell = usize::from(trail.checked_sub(0xa1)?);
    if JIS_CELLS <= row || JIS_CELLS <= cell {
        return None;
    }
    let index = JIS_CELLS.checked_mul(plane)?.checked_add(row)?;
    let index = index.checked_mul(JIS_CELLS)?.checked_add(cell)?;
    let plain = at(JIS, index);
    let c = if charset == Many::Ujis { plain } else { or_exception(EUCJPMS, index, plain) };
    Some((c?, rest))
}

/// Shifted JIS: two rows to a leading byte.
fn shifted_index(lead: u8, trail: u8) -> Option<usize> {
    let lead = match lead {
        0x81..=0x9f => lead.checked_sub(0x81)?,
        0xe0..=0xfc => lead.checked_sub(0xc1)?,
        _ => return None,
    };
    let cell = match trail {
        0x40..=0x7e => trail.checked_sub(0x40)?,
        0x80..=0xfc => trail.checked_sub(0x41)?,
        _ => return None,
    };
    usize::from(lead).checked_mul(188)?.checked_add(cell.into())
}

fn is_sjis(index: usize) -> bool {
    index < JIS_ROWS.saturating_mul(JIS_CELLS)
}

/// The character of a code of four bytes.
fn four(lead: u8, second: u8, rest: &[u8]) -> Option<(char, &[u8])> {
    let ([third, fourth], rest) = rest.split_first_chunk::<2>()?;
    let (third, fourth) = (third.checked_sub(0x81)?, fourth.checked_sub(b'0')?);
    if 126 <= third || 10 <= fourth {
        return None;
    }
    let mut number = usize::from(lead.checked_sub(0x81)?);
    for (digit, base) in [(second.checked_sub(b'0')?, 10), (third, 126), (fourth, 10)] {
        number = number.checked_mul(base)?.checked_add(digit.into())?;
    }
    let scalar = match number {
        0..FOUR_LOW => {
            let after = partition(GB18030, number);
            let (first, c) = entry(GB18030, after.checked_sub(1)?)?;
            u32::from(c).checked_add(u32::try_from(number.checked_sub(first)?).ok()?)?
        }
        FOUR_HIGH.. => {
            let above = u32::try_from(number.checked_sub(FOUR_HIGH)?).ok()?;
            above.checked_add(0x1_0000)?
        }
        _ => return None,
    };
    Some((char::from_u32(scalar)?, rest))
}

/// What stands for a place among the exceptions, or else what a table has.
fn or_exception(exceptions: &[u8], index: usize, plain: Option<char>) -> Option<char> {
    let found = partition(exceptions, index).checked_sub(1).and_then(|at| entry(exceptions, at));
    match found {
        Some((place, 0)) if place == index => None,
        Some((place, unit)) if place == index => char::from_u32(unit.into()),
        _ => plain,
    }
}

/// How many entries are at or before a place.
fn partition(entries: &[u8], index: usize) -> usize {
    let (entries, _) = entries.as_chunks::<4>();
    entries
        .partition_point(|[low, high, ..]| usize::from(u16::from_le_bytes([*low, *high])) <= index)
}

fn entry(entries: &[u8], number: usize) -> Option<(usize, u16)> {
    let (entries, _) = entries.as_chunks::<4>();
    let [a, b, c, d] = *entries.get(number)?;
    Some((usize::from(u16::from_le_bytes([a, b])), u16::from_le_bytes([c, d])))
}
