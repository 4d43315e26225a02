//! What a server answers.
use bytes::{BufMut as _, Bytes, BytesMut};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// In the type's own way.
    Binary,
}

impl Format {
    const fn code(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The OID of its type.
    pub type_oid: u32,
    /// How its values are written.
    pub format: Format,
}

/// What a session tells about its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// There is none.
    Idle,
    /// One is open.
    Open,
    /// One is open in which a statement failed.
    Failed,
}

/// Why the server refuses something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The SQLSTATE.
    pub code: String,
    /// The server's words.
    pub message: String,
    /// The constraint that was broken.
    pub constraint: Option<String>,
    /// Whether the session ends with it.
    pub fatal: bool,
}

impl Refused {
    /// A statement is refused.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), constraint: None, fatal: false }
    }

    /// The session is refused, or ends.
    #[must_use]
    pub fn fatal(code: &str, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::new(code, message) }
    }
}

/// Messages that wait to be sent.
#[derive(Debug, Default)]
pub struct Reply {
    bytes: BytesMut,
}

impl Reply {
    /// Takes all of them.
    pub fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The client is let in: AuthenticationOk, settings, BackendKeyData, ReadyForQuery.
    pub fn welcome(&mut self, settings: &[(&str, &str)], pid: i32) {
        self.message(b'R', |out| out.put_u32(0));
        for (name, value) in settings {
            self.message(b'S', |out| {
                put_text(out, name);
                put_text(out, value);
            });
        }
        self.message(b'K', |out| {
            out.put_i32(pid);
            out.put_i32(pid);
        });
        self.ready(TxStatus::Idle);
    }

    /// ReadyForQuery.
    pub fn ready(&mut self, status: TxStatus) {
        let status = match status {
            TxStatus::Idle => b'I',
            TxStatus::Open => b'T',
            TxStatus::Failed => b'E',
        };
        self.message(b'Z', |out| out.put_u8(status));
    }

    /// ErrorResponse.
    pub fn error(&mut self, refused: &Refused) {
        let severity = if refused.fatal { "FATAL" } else { "ERROR" };
        self.message(b'E', |out| {
            let fields = [
                (b'S', severity),
                (b'V', severity),
                (b'C', refused.code.as_str()),
                (b'M', refused.message.as_str()),
            ];
            let constraint = refused.constraint.as_deref().map(|name| (b'n', name));
            for (field, text) in fields.into_iter().chain(constraint) {
                out.put_u8(field);
                put_text(out, text);
            }
            out.put_u8(0);
        });
    }

    /// RowDescription.
    pub fn columns(&mut self, columns: &[Column]) {
        self.message(b'T', |out| {
            put_count(out, columns.len());
            for Column { name, type_oid, format } in columns {
                put_text(out, name);
                // It comes from no table.
                out.put_u32(0);
                out.put_u16(0);
                out.put_u32(*type_oid);
                // Of any length, with no modifier.
                out.put_i16(-1);
                out.put_i32(-1);
                out.put_u16(format.code());
            }
        });
    }

    /// DataRow.
    pub fn row(&mut self, values: &[Option<Bytes>]) {
        self.message(b'D', |out| {
            put_count(out, values.len());
            for value in values {
                match value {
                    Some(value) => {
                        out.put_u32(u32::try_from(value.len()).expect("a value is small"));
                        out.put_slice(value);
                    }
                    None => out.put_i32(-1),
                }
            }
        });
    }

    /// CommandComplete, with a tag such as `INSERT 0 3`.
    pub fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| put_text(out, tag));
    }

    /// EmptyQueryResponse.
    pub fn empty_query(&mut self) {
        self.message(b'I', |_| ());
    }

    /// ParseComplete.
    pub fn parsed(&mut self) {
        self.message(b'1', |_| ());
    }

    /// BindComplete.
    pub fn bound(&mut self) {
        self.message(b'2', |_| ());
    }

    /// CloseComplete.
    pub fn closed(&mut self) {
        self.message(b'3', |_| ());
    }

    /// NoData: what was described returns no rows.
    pub fn no_data(&mut self) {
        self.message(b'n', |_| ());
    }

    /// ParameterDescription.
    pub fn parameters(&mut self, types: &[u32]) {
        self.message(b't', |out| {
            put_count(out, types.len());
            types.iter().for_each(|oid| out.put_u32(*oid));
        });
    }

    /// CopyInResponse.
    pub fn copy_in(&mut self, format: Format, columns: usize) {
        self.copy(b'G', format, columns);
    }

    /// CopyBothResponse: the connection becomes a stream in both directions.
    pub fn copy_both(&mut self) {
        self.copy(b'W', Format::Text, 0);
    }

    fn copy(&mut self, tag: u8, format: Format, columns: usize) {
        self.message(tag, |out| {
            out.put_u8(u8::from(format == Format::Binary));
            put_count(out, columns);
            (0..columns).for_each(|_| out.put_u16(format.code()));
        });
    }

    /// CopyData.
    pub fn copy_data(&mut self, payload: &[u8]) {
        self.message(b'd', |out| out.put_slice(payload));
    }

    /// CopyDone.
    pub fn copy_done(&mut self) {
        self.message(b'c', |_| ());
    }

    fn message(&mut self, tag: u8, body: impl FnOnce(&mut BytesMut)) {
        self.bytes.put_u8(tag);
        let at = self.bytes.len();
        self.bytes.put_u32(0);
        body(&mut self.bytes);
        let len = u32::try_from(self.bytes.len() - at).expect("a message is small");
        self.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    assert!(!text.contains('\0'), "a text holds a zero byte");
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u16(u16::try_from(count).expect("few columns"));
}
