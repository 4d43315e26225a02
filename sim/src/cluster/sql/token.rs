//! SQL text to words and signs (PostgreSQL documentation, "Lexical Structure").
use super::error::SqlError;

/// A word or sign of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or keyword without quotes, in lower case.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A text in single quotes.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `$1` is parameter 0.
    Param(usize),
    /// Anything else.
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 18] = [
    "->>", "::", "<=", ">=", "<>", "||", "(", ")", "[", "]", ",", ".", ";", "=", "<", ">", "/", "+",
];
const MORE_SIGNS: [&str; 3] = ["*", "-", "?"];

/// Splits a text.
pub(super) fn tokens(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut found = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, len) = match first {
            '\'' => quoted(rest, '\'').map(|(text, len)| (Token::Text(text), len)),
            '"' => quoted(rest, '"').map(|(name, len)| (Token::Quoted(name), len)),
            '$' => number(&rest[1..])
                .and_then(|(number, len)| Some((usize::try_from(number).ok()?, len)))
                .and_then(|(number, len)| Some((Token::Param(number.checked_sub(1)?), len + 1))),
            '0'..='9' => number(rest).map(|(number, len)| (Token::Number(number), len)),
            'a'..='z' | 'A'..='Z' | '_' => Some(word(rest)),
            _ => SIGNS
                .into_iter()
                .chain(MORE_SIGNS)
                .find(|sign| rest.starts_with(sign))
                .map(|sign| (Token::Sign(sign), sign.len())),
        }
        .ok_or_else(|| SqlError::unknown(sql))?;
        found.push(token);
        rest = rest[len..].trim_start();
    }
    Ok(found)
}

/// A name or text up to its closing quote, which is doubled inside; and how long it is with both.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            value.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            value.push(quote);
        } else {
            return Some((value, at + 1));
        }
    }
    None
}

fn number(text: &str) -> Option<(i64, usize)> {
    let len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..len].parse().ok()?, len))
}

fn word(text: &str) -> (Token, usize) {
    let len = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (Token::Word(text[..len].to_ascii_lowercase()), len)
}

#[cfg(test)]
mod tests {
    use super::{Token, tokens};

    #[test]
    fn quotes_keep_what_is_in_them() {
        let found = tokens(r#"SELECT "A ""b" || 'it''s' <=$12"#).unwrap();
        let text = |text: &str| text.to_owned();
        let expected = [
            Token::Word(text("select")),
            Token::Quoted(text("A \"b")),
            Token::Sign("||"),
            Token::Text(text("it's")),
            Token::Sign("<="),
            Token::Param(11),
        ];
        assert_eq!(found, expected);
        assert!(tokens("'open").is_err());
    }
}
