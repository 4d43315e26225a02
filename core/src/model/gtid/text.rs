//! The texts of identifiers: as a server prints them, and as people write them.
use core::fmt;
use core::str::FromStr;

use super::error::{GtidFault, ParseGtidError};
use super::{GNO_MAX, Gtid, GtidSet, Interval, Tag, Tsid, Uuid};

/// Where the dashes of a UUID are.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = ParseGtidError;

    /// Reads 32 hexadecimal digits, large or small, with dashes at their four places.
    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        let error = || ParseGtidError::new(text, GtidFault::Uuid);
        if text.len() != 36 {
            return Err(error());
        }
        let mut digits = text.bytes().enumerate().filter_map(|(at, byte)| match byte {
            b'-' if DASHES.contains(&at) => None,
            _ => Some(char::from(byte).to_digit(16)),
        });
        let mut bytes = [0_u8; 16];
        for byte in &mut bytes {
            let (high, low) = (digits.next().flatten(), digits.next().flatten());
            let value = high.zip(low).map(|(high, low)| high << 4 | low);
            *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or_else(error)?;
        }
        if digits.next().is_some() {
            return Err(error());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Tsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uuid)?;
        if !self.tag.is_none() {
            write!(f, ":{}", self.tag.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tsid, self.gno)
    }
}

impl FromStr for Gtid {
    type Err = ParseGtidError;

    /// Reads `uuid:number` or `uuid:tag:number`.
    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        let error = || ParseGtidError::new(text, GtidFault::NotOne);
        let set: GtidSet = text.parse()?;
        let mut all = set.iter();
        let (tsid, interval) = all.next().ok_or_else(error)?;
        if all.next().is_some() || interval.from != interval.through {
            return Err(error());
        }
        Ok(Self { tsid, gno: interval.from })
    }
}

impl fmt::Display for GtidSet {
    /// Prints what `@@global.gtid_executed` shows: a new line after the comma between two servers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uuid = None;
        for (tsid, ranges) in &self.sources {
            if uuid == Some(tsid.uuid) {
                write!(f, ":{}", tsid.tag.as_str())?;
            } else {
                if uuid.is_some() {
                    f.write_str(",\n")?;
                }
                write!(f, "{tsid}")?;
            }
            uuid = Some(tsid.uuid);
            for Interval { from, through } in ranges.iter() {
                write!(f, ":{from}")?;
                if from != through {
                    write!(f, "-{through}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = ParseGtidError;

    /// Reads what a server prints. Blanks and new lines may stand around every part, letters may be
    /// large, runs may overlap, servers may come twice, and between two commas may be nothing.
    fn from_str(text: &str) -> Result<Self, ParseGtidError> {
        let mut set = Self::new();
        for source in text.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            parse_source(source, &mut set)?;
        }
        Ok(set)
    }
}

/// Reads the part of one server: `uuid:1-5:7:tag:1`.
fn parse_source(source: &str, set: &mut GtidSet) -> Result<(), ParseGtidError> {
    let mut parts = source.split(':').map(str::trim);
    let uuid: Uuid = parts.next().unwrap_or_default().parse()?;
    let mut tsid = Tsid { uuid, tag: Tag::NONE };
    // What still waits for numbers.
    let mut open = Some(source);
    for part in parts {
        if part.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) {
            let error = |_| ParseGtidError::new(source, GtidFault::TooMany);
            set.insert_interval(tsid, parse_interval(part)?).map_err(error)?;
            open = None;
            continue;
        }
        if let Some(open) = open.filter(|_| !tsid.tag.is_none()) {
            return Err(ParseGtidError::new(open, GtidFault::NoNumbers));
        }
        let tag = Tag::new(part.as_bytes()).filter(|tag| !tag.is_none());
        tsid.tag = tag.ok_or_else(|| ParseGtidError::new(part, GtidFault::Interval))?;
        open = Some(part);
    }
    match open {
        Some(open) => Err(ParseGtidError::new(open, GtidFault::NoNumbers)),
        None => Ok(()),
    }
}

fn parse_interval(part: &str) -> Result<Interval, ParseGtidError> {
    let (from, through) = part.split_once('-').unwrap_or((part, part));
    let (from, through) = (parse_number(from)?, parse_number(through)?);
    let backwards = ParseGtidError::new(part, GtidFault::Backwards);
    Interval::new(from, through).ok_or(backwards)
}

fn parse_number(part: &str) -> Result<u64, ParseGtidError> {
    let digits = part.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseGtidError::new(part, GtidFault::Interval));
    }
    let number = digits.parse().ok().filter(|number| (1..=GNO_MAX).contains(number));
    number.ok_or_else(|| ParseGtidError::new(part, GtidFault::Number))
}
