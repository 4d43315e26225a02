//! One log line, as text in columns or as JSON.
//!
//! ```text
//! WARNING[2026-01-31T14:40:02-05:00] message                                       key=value other="a b"
//! 7 columns                          46 columns                                    by name
//! ```
use std::fmt::Write as _;

use jiff::Zoned;
use serde_json::{Map, Value, json};
use tracing::Level;

/// Fields start this far after the start of the message; two spaces of it are always there.
const FIELDS_COLUMN: usize = 46;

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) time: Zoned,
    pub(super) message: String,
    /// Strings, numbers and booleans, by name.
    pub(super) fields: Map<String, Value>,
}

impl Line {
    /// The documented layout. A line break inside would look like a line of its own, so control
    /// characters are escaped.
    pub(super) fn to_text(&self) -> String {
        let time = self.time.strftime("%Y-%m-%dT%H:%M:%S%:z");
        let mut text = format!("{:<7}[{time}] ", level_name(self.level));
        let start = text.chars().count();
        push_escaped(&mut text, &self.message, &[]);
        if !self.fields.is_empty() {
            let length = text.chars().count() - start;
            // The one documented line without a message has its fields right after two spaces.
            let pad = if length == 0 { 1 } else { FIELDS_COLUMN.saturating_sub(length).max(2) };
            text.extend(std::iter::repeat_n(' ', pad));
        }
        let mut names: Vec<&String> = self.fields.keys().collect();
        names.sort();
        for (index, name) in names.into_iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(name);
            text.push('=');
            let value = &self.fields[name];
            match value.as_str() {
                Some(value) => push_value(&mut text, value),
                None => text.push_str(&value.to_string()),
            }
        }
        text.push('\n');
        text
    }

    /// One JSON object for log collectors.
    pub(super) fn to_fluent(&self) -> String {
        let mut object = Map::new();
        object.insert(
            "time".to_owned(),
            json!(self.time.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()),
        );
        object.insert("severity".to_owned(), json!(level_name(self.level)));
        object.insert("message".to_owned(), json!(self.message));
        for (name, value) in &self.fields {
            let name = match name.as_str() {
                "time" | "severity" | "message" => format!("fields.{name}"),
                name => name.to_owned(),
            };
            object.insert(name, value.clone());
        }
        format!("{}\n", Value::Object(object))
    }
}

/// As the documented product spells it.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// A value, in quotes unless it is plain.
fn push_value(text: &mut String, value: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if value.chars().all(plain) {
        text.push_str(value);
    } else {
        text.push('"');
        push_escaped(text, value, &['"', '\\']);
        text.push('"');
    }
}

fn push_escaped(text: &mut String, value: &str, special: &[char]) {
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => {
                write!(text, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
            }
            c => {
                if special.contains(&c) {
                    text.push('\\');
                }
                text.push(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::{TimeZone, offset};
    use serde_json::{Map, Value, json};
    use tracing::Level;

    use super::Line;

    fn line(level: Level, message: &str, fields: &[(&str, Value)]) -> Line {
        let time = date(2025, 8, 25).at(14, 40, 2, 123_456_789);
        let time = time.to_zoned(TimeZone::fixed(offset(-5))).unwrap();
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Line { level, time, message: message.to_owned(), fields: fields.collect::<Map<_, _>>() }
    }

    #[test]
    fn text_lines_have_the_documented_layout() {
        for (line, text) in [
            (
                line(Level::INFO, "Replicator starting", &[]),
                "INFO   [2025-08-25T14:40:02-05:00] Replicator starting\n",
            ),
            (
                line(
                    Level::DEBUG,
                    "upserted rows",
                    &[
                        ("upserted", json!(1)),
                        ("target", json!("\"molt\".\"public\".\"employees\"")),
                        ("conflicts", json!(0)),
                        ("duration", json!("7.620208ms")),
                        ("proposed", json!(1)),
                    ],
                ),
                "DEBUG  [2025-08-25T14:40:02-05:00] upserted rows                                 \
                 conflicts=0 duration=7.620208ms proposed=1 \
                 target=\"\\\"molt\\\".\\\"public\\\".\\\"employees\\\"\" upserted=1\n",
            ),
            (
                line(Level::WARN, &"m".repeat(44), &[("a", json!("x y")), ("b", json!(true))]),
                "WARNING[2025-08-25T14:40:02-05:00] mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm  \
                 a=\"x y\" b=true\n",
            ),
            (
                line(Level::ERROR, &"m".repeat(50), &[("a", json!("0/49915DD0"))]),
                "ERROR  [2025-08-25T14:40:02-05:00] \
                 mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm  a=0/49915DD0\n",
            ),
            (
                line(Level::TRACE, "", &[("httpRequest", json!("&{...}"))]),
                "TRACE  [2025-08-25T14:40:02-05:00]  httpRequest=\"&{...}\"\n",
            ),
        ] {
            assert_eq!(line.to_text(), text);
        }
    }

    #[test]
    fn fields_start_in_column_46() {
        let text = line(Level::INFO, "short", &[("a", json!(1))]).to_text();
        assert_eq!(text.find("a=1").unwrap() - text.find("short").unwrap(), 46);
    }

    #[test]
    fn nobody_can_forge_a_line() {
        let text = line(Level::INFO, "a\nERROR \u{1b}[0m", &[("b", json!("c\r\nd"))]).to_text();
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("a\\nERROR \\u001b[0m"), "{text}");
        assert!(text.ends_with("b=\"c\\r\\nd\"\n"), "{text}");
    }

    #[test]
    fn fluent_lines_are_objects_with_typed_fields() {
        let fields = [("rows", json!(5)), ("time", json!("x")), ("text", json!("a\nb"))];
        let text = line(Level::WARN, "hello", &fields).to_fluent();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({
                "time": "2025-08-25T14:40:02.123456-05:00",
                "severity": "WARNING",
                "message": "hello",
                "rows": 5,
                "text": "a\nb",
                "fields.time": "x",
            })
        );
    }
}
