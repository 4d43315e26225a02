//! Bodies as they arrive, packed or not, piece by piece into memory for which there is room.
//!
//! What counts is what comes out: a small body that unpacks to a large one is refused as soon as it is
//! too large, and nobody waits for the rest of it.
use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use flate2::write::MultiGzDecoder;
use replicator_core::decode::changefeed::{FeedError, Part};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::zstd::{Zstd, ZstdError};
use super::{Refusal, UNIT};

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// It is not.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Unpacks a body of at most `bytes_max` bytes that arrives in pieces of `piece` bytes, at least 1, as the
/// requests of changefeeds are.
///
/// # Errors
///
/// The status of the answer to whoever sent it.
pub fn unpack(
    coding: Coding,
    body: &[u8],
    piece: usize,
    bytes_max: usize,
) -> Result<Bytes, StatusCode> {
    // Beside the body there may be what its later parts may repeat.
    let room = Arc::new(Semaphore::new((2 * bytes_max).div_ceil(UNIT)));
    let mut unpacker = Unpacker::new(coding, Collected::new(bytes_max, room));
    let pushed = body.chunks(piece).try_for_each(|piece| unpacker.push(piece));
    let unpacked = pushed.and_then(|()| unpacker.finish());
    unpacked.map(|(bytes, _room)| bytes).map_err(|refusal| refusal.status)
}

impl Coding {
    /// What the headers say (RFC 9110, section 8.4). `None`: something else, or several over each other,
    /// which no changefeed sends.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut coding = Self::Plain;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.to_str().ok()?.split(',').map(str::trim) {
                let is = |known: &str| name.eq_ignore_ascii_case(known);
                let named = if is("gzip") || is("x-gzip") {
                    Self::Gzip
                } else if is("zstd") {
                    Self::Zstd
                } else if is("identity") || name.is_empty() {
                    continue;
                } else {
                    return None;
                };
                if coding != Self::Plain {
                    return None;
                }
                coding = named;
            }
        }
        Some(coding)
    }
}

/// A body in memory, and the room that it takes.
#[derive(Debug)]
pub(super) struct Collected {
    bytes: Vec<u8>,
    bytes_max: usize,
    room: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    // What a writer cannot say.
    refusal: Option<Refusal>,
}

impl Collected {
    /// An empty body that may have so many bytes.
    pub(super) fn new(bytes_max: usize, room: Arc<Semaphore>) -> Self {
        Self { bytes: Vec::new(), bytes_max, room, taken: None, refusal: None }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let length = self.bytes.len().saturating_add(bytes.len());
        if self.bytes_max < length {
            return Err(too_large(self.bytes_max));
        }
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(more) = length.div_ceil(UNIT).checked_sub(taken).filter(|more| 0 < *more) {
            let more = self.take(more)?;
            match &mut self.taken {
                Some(taken) => taken.merge(more),
                None => self.taken = Some(more),
            }
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Room for so many bytes beside the body.
    pub(super) fn beside(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        self.take(bytes.div_ceil(UNIT))
    }

    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn take(&self, units: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(units).map_err(|_| Refusal::full())?;
        Arc::clone(&self.room).try_acquire_many_owned(units).map_err(|_| Refusal::full())
    }
}

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.push(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(refusal) => {
                self.refusal = Some(refusal);
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes a body as it arrives.
pub(super) struct Unpacker {
    how: How,
    arrived: usize,
    arrived_max: usize,
}

enum How {
    Plain(Collected),
    Gzip(Box<MultiGzDecoder<Collected>>),
    Zstd(Box<Zstd>),
}

impl Unpacker {
    pub(super) fn new(coding: Coding, collected: Collected) -> Self {
        let arrived_max = collected.bytes_max;
        let how = match coding {
            Coding::Plain => How::Plain(collected),
            Coding::Gzip => How::Gzip(Box::new(MultiGzDecoder::new(collected))),
            Coding::Zstd => How::Zstd(Box::new(Zstd::new(collected))),
        };
        Self { how, arrived: 0, arrived_max }
    }

    /// Takes the next piece. The time that it takes grows with what it unpacks to.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.arrived = self.arrived.saturating_add(piece.len());
        // A packed body can be larger than what is in it.
        if self.arrived_max < self.arrived {
            return Err(too_large(self.arrived_max));
        }
        match &mut self.how {
            How::Plain(collected) => collected.push(piece),
            How::Gzip(gzip) => {
                let written = gzip.write_all(piece);
                written.map_err(|error| gzip_refusal(gzip, &error))
            }
            How::Zstd(zstd) => zstd.push(piece).map_err(zstd_refusal),
        }
    }

    /// The whole body, with the room that it takes.
    pub(super) fn finish(self) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let collected = match self.how {
            How::Plain(collected) => collected,
            // Nothing is nothing, however it is packed.
            How::Gzip(_) | How::Zstd(_) if self.arrived == 0 => return Ok((Bytes::new(), None)),
            How::Gzip(mut gzip) => {
                gzip.try_finish().map_err(|error| gzip_refusal(&mut gzip, &error))?;
                gzip.finish().map_err(|error| broken(&error))?
            }
            How::Zstd(zstd) => zstd.finish().map_err(zstd_refusal)?,
        };
        Ok((Bytes::from(collected.bytes), collected.taken))
    }
}

fn gzip_refusal(gzip: &mut MultiGzDecoder<Collected>, error: &io::Error) -> Refusal {
    gzip.get_mut().refusal.take().unwrap_or_else(|| broken(error))
}

fn zstd_refusal(error: ZstdError) -> Refusal {
    match error {
        ZstdError::Refused(refusal) => refusal,
        ZstdError::Broken(detail) => broken(&detail),
    }
}

fn broken(detail: &impl ToString) -> Refusal {
    let public = "the body cannot be unpacked";
    Refusal::new(StatusCode::BAD_REQUEST, public, detail.to_string())
}

fn too_large(limit: usize) -> Refusal {
    Refusal::of(&FeedError::TooLarge { what: Part::Body, limit })
}

#[cfg(test)]
mod tests;
