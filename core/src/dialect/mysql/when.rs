//! Dates and times, as CockroachDB and PostgreSQL print them → literals of MySQL.
//!
//! Only what is in UTC or has no zone is taken; sessions have `time_zone = '+00:00'`. Fractions of a second
//! go as they are; MySQL rounds them to the precision of the column, as PostgreSQL does, and MariaDB cuts them
//! off.
use alloc::string::String;

use super::literal::ValueError;

/// `2024-02-29`.
const DATE: &str = "dddd-dd-dd";
/// `01:02:03`, perhaps with a fraction.
const TIME: &str = "dd:dd:dd";

/// Appends a date. One of a moment is taken only at midnight.
pub(super) fn push_date(sql: &mut String, text: &str) -> Result<(), ValueError> {
    let (date, rest) = split(text, DATE)?;
    if !rest.is_empty() {
        let time = rest.strip_prefix(['T', ' ']).ok_or(ValueError::Time)?;
        let (time, fraction) = split_time(time)?;
        if time != "00:00:00" || fraction.contains(|c: char| matches!(c, '1'..='9')) {
            return Err(ValueError::TimeOfDay);
        }
    }
    push_quoted(sql, &[date]);
    Ok(())
}

/// Appends a moment.
pub(super) fn push_moment(sql: &mut String, text: &str) -> Result<(), ValueError> {
    let (date, rest) = split(text, DATE)?;
    if rest.is_empty() {
        push_quoted(sql, &[date, " 00:00:00"]);
        return Ok(());
    }
    let time = rest.strip_prefix(['T', ' ']).ok_or(ValueError::Time)?;
    let (time, fraction) = split_time(time)?;
    push_quoted(sql, &[date, " ", time, fraction]);
    Ok(())
}

/// Appends a time of day, or a length of time in hours, minutes and seconds.
pub(super) fn push_time(sql: &mut String, text: &str) -> Result<(), ValueError> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    // A length of time may have over 99 hours.
    let hours = unsigned.find(':').filter(|len| (2..=3).contains(len)).ok_or(ValueError::Time)?;
    let (above_99, two) = unsigned.split_at_checked(hours.saturating_sub(2)).unwrap_or_default();
    if !above_99.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::Time);
    }
    let (time, fraction) = split_time(two)?;
    push_quoted(sql, &[sign, above_99, time, fraction]);
    Ok(())
}

/// Time and fraction, of a text that says no zone or UTC.
fn split_time(text: &str) -> Result<(&str, &str), ValueError> {
    let (time, rest) = split(text, TIME)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        end.saturating_add(1)
    });
    let (fraction, zone) = rest.split_at_checked(digits).unwrap_or_default();
    match zone {
        "" | "Z" | "+00" | "+00:00" | "+00:00:00" => Ok((time, fraction)),
        _ => Err(ValueError::Time),
    }
}

/// Splits off what looks like the pattern, in which `d` is a digit.
fn split<'a>(text: &'a str, pattern: &str) -> Result<(&'a str, &'a str), ValueError> {
    let (head, rest) = text.split_at_checked(pattern.len()).ok_or(ValueError::Time)?;
    let fits = head.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
        b'd' => byte.is_ascii_digit(),
        wanted => byte == wanted,
    });
    if fits { Ok((head, rest)) } else { Err(ValueError::Time) }
}

fn push_quoted(sql: &mut String, parts: &[&str]) {
    sql.push('\'');
    parts.iter().for_each(|part| sql.push_str(part));
    sql.push('\'');
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::{ValueError, push_date, push_moment, push_time};

    type Push = fn(&mut String, &str) -> Result<(), ValueError>;

    fn check(push: Push, texts: &[(&str, &str)]) {
        for (text, literal) in texts {
            let mut sql = String::new();
            assert_eq!(push(&mut sql, text), Ok(()), "{text}");
            assert_eq!(sql, *literal, "{text}");
        }
    }

    fn refuse(push: Push, texts: &[&str]) {
        for text in texts {
            let mut sql = String::new();
            assert!(push(&mut sql, text).is_err(), "{text}");
            assert_eq!(sql, "", "{text}");
        }
    }

    #[test]
    fn w13_moments_lose_their_zone_only_if_it_is_utc() {
        check(
            push_moment,
            &[
                ("2024-02-29T01:02:03.123456Z", "'2024-02-29 01:02:03.123456'"),
                ("2024-02-29T01:02:03", "'2024-02-29 01:02:03'"),
                ("2024-02-29 01:02:03+00", "'2024-02-29 01:02:03'"),
                ("2024-02-29", "'2024-02-29 00:00:00'"),
            ],
        );
        refuse(
            push_moment,
            &[
                "2024-02-29T01:02:03+02:00",
                "294276-12-31T23:59:59.999999",
                "-4713-11-24T00:00:00Z",
                "0044-03-15T00:00:00 BC",
                "infinity",
                "2024-02-29T01:02:03' OR '1",
                "",
            ],
        );
    }

    #[test]
    fn dates_are_whole_days() {
        check(
            push_date,
            &[("2024-02-29", "'2024-02-29'"), ("9999-12-31T00:00:00.000Z", "'9999-12-31'")],
        );
        refuse(push_date, &["4714-11-24 BC", "-infinity", "12024-01-01", "2024-02-29T00:00:00.1"]);
    }

    #[test]
    fn times_may_be_longer_than_a_day() {
        check(
            push_time,
            &[
                ("24:00:00", "'24:00:00'"),
                ("12:34:56.7", "'12:34:56.7'"),
                ("-04:05:06.789", "'-04:05:06.789'"),
                ("100:00:00", "'100:00:00'"),
                ("00:00:00+00:00:00", "'00:00:00'"),
            ],
        );
        refuse(push_time, &["01:02:03-08:00:00", "-1 days", "1:02:03", "1000:00:00", "x1:02:03"]);
    }
}
