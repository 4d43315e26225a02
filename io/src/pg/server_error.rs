//! An error in the words of a server.
use std::fmt;

use thiserror::Error;

/// What a server said when it refused something. Never holds values of rows: the detail, which may, is
/// left out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`.
    pub severity: String,
    /// The SQLSTATE, five characters (PostgreSQL documentation, "PostgreSQL Error Codes").
    pub code: String,
    /// What happened.
    pub message: String,
    /// What may help.
    pub hint: Option<String>,
    /// The column it is about.
    pub column: Option<String>,
    /// The constraint it is about.
    pub constraint: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, code, message, hint, .. } = self;
        write!(f, "{severity}: {message} (SQLSTATE {code})")?;
        hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl ServerError {
    /// Reads the body of an ErrorResponse or NoticeResponse: a letter and a text that ends with a zero,
    /// again and again (PostgreSQL documentation, "Error and Notice Message Fields").
    #[must_use]
    pub fn parse(body: &[u8]) -> Self {
        let mut error = Self {
            severity: "ERROR".to_owned(),
            code: "XX000".to_owned(),
            message: "unknown error".to_owned(),
            hint: None,
            column: None,
            constraint: None,
        };
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'V' => error.severity = text,
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'H' => error.hint = Some(text),
                b'c' => error.column = Some(text),
                b'n' => error.constraint = Some(text),
                _ => (),
            }
        }
        error
    }

    /// The server's part of an error of tokio-postgres, if it came from the server.
    #[must_use]
    pub fn of(error: &tokio_postgres::Error) -> Option<Self> {
        let error = error.as_db_error()?;
        Some(Self {
            severity: error.severity().to_owned(),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
            column: error.column().map(str::to_owned),
            constraint: error.constraint().map(str::to_owned),
        })
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.severity != "ERROR"
    }
}

#[cfg(test)]
mod tests {
    use super::ServerError;

    #[test]
    fn a_servers_words_come_through_without_the_detail() {
        let body = b"SFEHLER\0VFATAL\0C28P01\0Mno way\0Dkey (id)=(7)\0Htry again\0\0";
        let error = ServerError::parse(body);
        assert_eq!(error.to_string(), "FATAL: no way (SQLSTATE 28P01); try again");
        assert_eq!(ServerError::parse(b"").code, "XX000");
    }
}
