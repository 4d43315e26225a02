//! Rows as the older tool stages them: what the changefeed sent, in JSON, packed with gzip where that is
//! smaller.
use std::io::Read as _;

use flate2::read::GzDecoder;
use replicator_core::decode::changefeed::{
    BodyKind, Changefeed, FeedError, Limits, Message, Scope,
};
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::time::Hlc;
use thiserror::Error;

/// The first bytes of what gzip has packed (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// A row of the older tool that cannot be read.
#[derive(Debug, Error)]
pub(super) enum OlderError {
    /// It cannot be unpacked.
    #[error("it cannot be unpacked")]
    Packed(#[source] std::io::Error),
    /// It is no row of its table.
    #[error(transparent)]
    Row(#[from] FeedError),
    /// It says nothing.
    #[error("it says nothing about any row")]
    Nothing,
}

/// One row as its columns have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OlderRow<'a> {
    pub(super) time: Hlc,
    pub(super) key: &'a str,
    pub(super) value: &'a [u8],
    pub(super) before: Option<&'a [u8]>,
    pub(super) gone: bool,
}

impl OlderRow<'_> {
    /// Reads it as if the changefeed sent it now, as a row of the topic `table`.
    pub(super) fn read(
        &self,
        feed: &mut Changefeed,
        table: &str,
    ) -> Result<TimedMutation, OlderError> {
        let mut body = b"{\"payload\":[{\"after\":".to_vec();
        if self.gone {
            body.extend_from_slice(b"null");
        } else {
            unpack(self.value, &mut body)?;
        }
        if let Some(before) = self.before {
            body.extend_from_slice(b",\"before\":");
            unpack(before, &mut body)?;
        }
        body.extend_from_slice(b",\"key\":");
        body.extend_from_slice(self.key.as_bytes());
        body.extend_from_slice(format!(",\"updated\":\"{}\"}}]}}", self.time).as_bytes());
        let scope = Scope::Topic(table.to_owned());
        match feed.read(&scope, BodyKind::Webhook, &body)? {
            Message::Rows(mut rows) => {
                let row = rows.next().ok_or(OlderError::Nothing)??;
                // The rest must be well, too.
                rows.next().map_or(Ok(row), |_| Err(OlderError::Nothing))
            }
            Message::Resolved(_) => Err(OlderError::Nothing),
        }
    }
}

fn unpack(bytes: &[u8], body: &mut Vec<u8>) -> Result<(), OlderError> {
    if !bytes.starts_with(&GZIP) {
        body.extend_from_slice(if bytes.is_empty() { b"null" } else { bytes });
        return Ok(());
    }
    // A row that is longer is refused by its length.
    let limit = u64::try_from(Limits::BODY_BYTES_MOST).unwrap_or(u64::MAX);
    let read = GzDecoder::new(bytes).take(limit).read_to_end(body);
    read.map(drop).map_err(OlderError::Packed)
}
