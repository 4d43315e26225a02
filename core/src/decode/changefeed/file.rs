//! Names of the files that a changefeed writes to cloud storage, and so to a storage that is HTTP.
use core::str::FromStr;

use crate::model::time::Hlc;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File<'a> {
    /// Rows of this topic.
    Rows { topic: &'a str },
    /// A promise.
    Resolved(Hlc),
}

/// Reads a folder, which is a day, and a name.
pub(super) fn parse<'a>(date: &str, name: &'a str) -> Option<File<'a>> {
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let lengths = (year.len(), month.len(), day.len());
    if lengths != (4, 2, 2) || parts.next().is_some() {
        return None;
    }
    days(number(year)?, number(month)?, number(day)?)?;
    if let Some(name) = name.strip_suffix(".RESOLVED") {
        return time(name).map(File::Resolved);
    }
    let name = name.strip_suffix(".ndjson")?;
    topic(name).map(|topic| File::Rows { topic })
}

/// Five parts in front of the topic, and the number of the schema behind it, all with hyphens. The
/// topic may have hyphens of its own.
fn topic(name: &str) -> Option<&str> {
    let mut rest = name;
    for _ in 0..5 {
        let (part, after) = rest.split_once('-')?;
        if part.is_empty() {
            return None;
        }
        rest = after;
    }
    let (topic, version) = rest.rsplit_once('-')?;
    (!topic.is_empty() && !version.is_empty()).then_some(topic)
}

/// Reads `YYYYMMDDhhmmss`, nine digits of nanoseconds and ten of the logical part.
fn time(digits: &str) -> Option<Hlc> {
    const WIDTHS: [usize; 8] = [4, 2, 2, 2, 2, 2, 9, 10];
    let mut rest = digits;
    let mut fields = [0_u64; 8];
    for (field, width) in fields.iter_mut().zip(WIDTHS) {
        let (text, after) = rest.split_at_checked(width)?;
        *field = number(text)?;
        rest = after;
    }
    let [year, month, day, hour, minute, second, nanos, logical] = fields;
    if !rest.is_empty() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let hours = days(year, month, day)?.checked_mul(24)?.checked_add(hour)?;
    let seconds = hours.checked_mul(60)?.checked_add(minute)?.checked_mul(60)?;
    let seconds = seconds.checked_add(second)?;
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    // The same bounds as everywhere.
    Hlc::from_str(&alloc::format!("{nanos}.{logical:010}")).ok()
}

/// Days since 1970-01-01; `None` if there is no such day, or it was before.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    if year < 1970 || day == 0 || *months.get(before)? < day {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months: u64 = months.iter().take(before).sum();
    years.checked_add(months)?.checked_add(day)?.checked_sub(1)
}

fn number(digits: &str) -> Option<u64> {
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}

#[cfg(test)]
mod tests {
    use super::{File, parse};
    use crate::model::time::Hlc;

    fn time(digits: &str) -> Option<Hlc> {
        let name = alloc::format!("{digits}.RESOLVED");
        match parse("2024-05-22", &name)? {
            File::Resolved(time) => Some(time),
            File::Rows { topic } => panic!("rows of {topic}"),
        }
    }

    #[test]
    fn a_promise_is_read_as_a_time() {
        for (digits, nanos, logical) in [
            ("197001010000000000000010000000000", 1, 0),
            ("200002291200000000000000000000000", 951_825_600_000_000_000, 0),
            ("202004022058072107140000000000007", 1_585_861_087_210_714_000, 7),
            ("226204112347168547758072147483647", 9_223_372_036_854_775_807, 2_147_483_647),
        ] {
            assert_eq!(time(digits), Some(Hlc { nanos, logical }), "{digits}");
        }
    }

    #[test]
    fn what_is_no_time_is_no_promise() {
        for digits in [
            "",
            "20200402205807210714000000000000",
            "2020040220580721071400000000000000",
            "196912312359599999999990000000000",
            "202000022058072107140000000000000",
            "202013022058072107140000000000000",
            "202004312058072107140000000000000",
            "202104002058072107140000000000000",
            "210002290000000000000000000000000",
            "202004022458072107140000000000000",
            "202004022060072107140000000000000",
            "202004022058602107140000000000000",
            "226204112347168547758080000000000",
            "202004022058072107140009999999999",
            "+02004022058072107140000000000000",
            "2020040220580721071400000000000\u{e9}",
        ] {
            assert_eq!(time(digits), None, "{digits}");
        }
    }

    #[test]
    fn a_topic_stands_between_hyphens() {
        let topic = |name: &'static str| match parse("2024-05-22", name)? {
            File::Rows { topic } => Some(topic),
            File::Resolved(time) => panic!("a promise of {time}"),
        };
        assert_eq!(topic("1-2-3-4-5-t-6.ndjson"), Some("t"));
        assert_eq!(topic("1-2-3-4-5-my-t.x-6.ndjson"), Some("my-t.x"));
        for name in [
            "1-2-3-4-5-6.ndjson",
            "1-2-3-4--t-6.ndjson",
            "1-2-3-4-5--6.ndjson",
            "1-2-3-4-5-t-.ndjson",
            "1-2-3-4-5-t-6.NDJSON",
            ".ndjson",
        ] {
            assert_eq!(topic(name), None, "{name}");
        }
        assert_eq!(parse("2024-02-30", "1-2-3-4-5-t-6.ndjson"), None);
        assert_eq!(parse("2024-02-29-1", "1-2-3-4-5-t-6.ndjson"), None);
    }
}
