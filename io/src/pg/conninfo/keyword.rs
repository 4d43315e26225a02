//! `host=localhost password='it\'s' dbname=d`: names, equal signs, values; a value with spaces is put in
//! single quotes; a backslash makes the next character ordinary, inside quotes and outside.
use std::iter::Peekable;
use std::str::Chars;

use super::ConnInfoError;
use super::draft::Draft;

pub(super) fn parse(text: &str, draft: &mut Draft) -> Result<(), ConnInfoError> {
    let mut chars = text.chars().peekable();
    // What a mistake comes after, to say where it is without showing what it is.
    let mut last: Option<String> = None;
    loop {
        skip_spaces(&mut chars);
        if chars.peek().is_none() {
            return Ok(());
        }
        let name = take_name(&mut chars);
        skip_spaces(&mut chars);
        if name.is_empty() || chars.next_if_eq(&'=').is_none() {
            return Err(no_equal_sign(last.as_deref()));
        }
        skip_spaces(&mut chars);
        let value = match chars.next_if_eq(&'\'') {
            Some(_) => take_quoted(&mut chars).ok_or_else(|| ConnInfoError::Syntax {
                what: "a quoted value in the connection string has no end".to_owned(),
            })?,
            None => take_plain(&mut chars),
        };
        if value.contains('\0') {
            let what = "a value in the connection string contains a zero byte".to_owned();
            return Err(ConnInfoError::Syntax { what });
        }
        let name = if name == "database" { "dbname" } else { name.as_str() };
        draft.set(name, value.into_bytes())?;
        last = Some(name.to_owned());
    }
}

fn no_equal_sign(last: Option<&str>) -> ConnInfoError {
    let what = match last {
        Some(last) => format!(
            "expected name=value after parameter \"{last}\"; a value with spaces is written in \
             single quotes"
        ),
        None => "a connection string is a URL such as postgresql://user@host/database, or a list \
                 of name=value"
            .to_owned(),
    };
    ConnInfoError::Syntax { what }
}

fn skip_spaces(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
}

fn take_name(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_ascii_whitespace()) {
        name.push(c);
    }
    name
}

fn take_plain(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(c) = chars.next_if(|c| !c.is_ascii_whitespace()) {
        // A backslash at the very end stands for nothing.
        value.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    value
}

fn take_quoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut value = String::new();
    loop {
        match chars.next()? {
            '\'' => return Some(value),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}
