//! Events → transactions: where each begins and ends, what becomes of it, and where to go on after it.
//!
//! MySQL names a transaction (GTID), begins it (`BEGIN`, `XA START`) and ends it (XID, `COMMIT`,
//! `ROLLBACK`, XA_PREPARE); a statement that defines data stands alone. MariaDB leaves `BEGIN` out and
//! says by flags what stands alone.
//!
//! An XA transaction counts where its outcome is logged. Its rows are kept until then, and it is left out
//! of the position to go on from, so that it comes again.
use alloc::sync::Arc;

use super::decoder::Decoder;
use super::event::{Event, Header, Payload};
use super::format::{Checksum, Format};
use super::payload::Unpacker;
use super::prepared::Prepared;
use super::step::{Step, TransactionLimits};
use super::transaction_error::TransactionError;
use super::transaction_flow::{Flow, State, Take};
use crate::model::gtid::{GtidPosition, TooManyIntervals};

/// Puts the events of one stream together. After an error it is of no more use.
#[derive(Debug)]
pub struct Transactions {
    decoder: Decoder,
    unpacker: Unpacker,
    flow: Flow,
}

impl Transactions {
    /// Reads a stream that begins after `position`. For `checksum` see [`Decoder::new`].
    #[must_use]
    pub fn new(position: GtidPosition, checksum: Checksum, limits: TransactionLimits) -> Self {
        let flow = Flow {
            savepoints_max: limits.savepoints_max,
            executed: position,
            prepared: Prepared::new(limits.prepared_bytes_max),
            state: State::Between,
        };
        let decoder = Decoder::new(checksum, limits.unpack);
        Self { decoder, unpacker: Unpacker::new(), flow }
    }

    /// All transactions whose end has been seen: what the source would say it has executed.
    #[must_use]
    pub const fn executed(&self) -> &GtidPosition {
        &self.flow.executed
    }

    /// Where to go on from after a restart: all but XA transactions without an outcome. With MySQL
    /// these are holes. With MariaDB it is before the first of them in its domain, and what comes
    /// after that in the domain comes again, too.
    ///
    /// # Errors
    ///
    /// The holes would be more than a set can have.
    pub fn resumable(&self) -> Result<GtidPosition, TooManyIntervals> {
        let mut position = self.flow.executed.clone();
        self.flow.prepared.before_all(&mut position)?;
        Ok(position)
    }

    /// How many XA transactions have no outcome yet.
    #[must_use]
    pub fn prepared_len(&self) -> usize {
        self.flow.prepared.len()
    }

    /// Whether a transaction has begun and not ended.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.flow.state, State::Between)
    }

    /// What events look like, once that is known.
    #[must_use]
    pub const fn format(&self) -> Option<&Arc<Format>> {
        self.decoder.format()
    }

    /// Takes the next event of the stream, whole, and hands what it means to `step`. A step borrows from
    /// the event. One event ends one transaction at most.
    ///
    /// # Errors
    ///
    /// It cannot be read, or makes no sense where it is, or `step` refused it.
    pub fn event<E, F>(&mut self, bytes: &[u8], mut step: F) -> Result<(), E>
    where
        E: From<TransactionError>,
        F: FnMut(Step<'_>) -> Result<(), E>,
    {
        let decoded = self.decoder.decode(bytes).map_err(TransactionError::Decode)?;
        if let Event::Payload(payload) = &decoded.event {
            return self.payload(payload, &decoded.header, &mut step);
        }
        let checksum = self.decoder.format().map_or(Checksum::None, |format| format.checksum);
        self.flow.take(&self.decoder, &decoded, (bytes, checksum.bytes()), &mut step)
    }

    fn payload<E: From<TransactionError>>(
        &mut self,
        payload: &Payload<'_>,
        header: &Header,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        if !matches!(self.flow.state, State::Named(_)) {
            return Err(self.flow.unexpected("a compressed transaction", header).into());
        }
        let decode = TransactionError::Decode;
        let limits = *self.decoder.limits();
        let mut events = self.unpacker.open(payload, limits, header.end).map_err(decode)?;
        while let Some(bytes) = events.next_event().map_err(decode)? {
            let decoded = self.decoder.decode_inner(bytes).map_err(decode)?;
            self.flow.take(&self.decoder, &decoded, (bytes, 0), step)?;
        }
        if !matches!(self.flow.state, State::Between) {
            return Err(self.flow.unexpected("the end of a compressed transaction", header).into());
        }
        Ok(())
    }
}
