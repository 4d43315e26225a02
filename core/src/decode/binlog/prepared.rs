//! XA transactions that are prepared and have no outcome yet: their events are kept.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::event::HEADER_BYTES;
use super::format::Format;
use super::statement::XaName;
use super::transaction_error::TransactionError;
use crate::model::gtid::{AnyGtid, GtidPosition, MariaGtid, TooManyIntervals};

/// Where the size of an event is in its header.
const SIZE_AT: core::ops::Range<usize> = 9..13;

/// What one costs besides its events.
const FIXED_BYTES: usize = 256;

/// The events of one.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Which transaction prepared it.
    pub(super) gtid: AnyGtid,
    /// The last transaction of MariaDB's domain before that.
    pub(super) before: Option<MariaGtid>,
    /// What its events look like.
    pub(super) format: Option<Arc<Format>>,
    // Whole events without checksums, one behind the other.
    events: Vec<u8>,
}

impl Held {
    pub(super) const fn new(
        gtid: AnyGtid,
        before: Option<MariaGtid>,
        format: Option<Arc<Format>>,
    ) -> Self {
        Self { gtid, before, format, events: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.events.len().saturating_add(FIXED_BYTES)
    }

    /// Its events, in order.
    pub(super) fn events(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.events.as_slice();
        core::iter::from_fn(move || {
            let size = rest.get(SIZE_AT).and_then(<[u8]>::first_chunk::<4>)?;
            let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
            let (event, after) = rest.split_at_checked(size.max(HEADER_BYTES))?;
            rest = after;
            Some(event)
        })
    }
}

/// All of them, and the one that is being read.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    bytes_max: usize,
    // Of those with a name.
    bytes: usize,
    held: BTreeMap<XaName, Held>,
}

impl Prepared {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, held: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Keeps one more event of `open`. `footer` is the length of its checksum, which is left out.
    pub(super) fn keep(
        &self,
        open: &mut Held,
        event: &[u8],
        footer: usize,
    ) -> Result<(), TransactionError> {
        let len = event.len().saturating_sub(footer);
        let all = self.bytes.saturating_add(open.bytes()).saturating_add(len);
        if self.bytes_max < all {
            return Err(TransactionError::PreparedTooLarge { limit: self.bytes_max });
        }
        let begin = open.events.len();
        open.events.extend_from_slice(event.get(..len).unwrap_or_default());
        let kept = open.events.get_mut(begin..).and_then(|kept| kept.get_mut(SIZE_AT));
        let size = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = kept {
            place.copy_from_slice(&size);
        }
        Ok(())
    }

    /// It is prepared.
    pub(super) fn add(&mut self, name: XaName, held: Held) -> Result<(), TransactionError> {
        if self.held.contains_key(&name) {
            return Err(TransactionError::XaTwice { xid: alloc::format!("{name}") });
        }
        self.bytes = self.bytes.saturating_add(held.bytes());
        self.held.insert(name, held);
        Ok(())
    }

    /// Its outcome is known.
    pub(super) fn take(&mut self, name: &XaName) -> Option<Held> {
        let held = self.held.remove(name)?;
        self.bytes = self.bytes.saturating_sub(held.bytes());
        Some(held)
    }

    /// Where to go on from so that all of them come again.
    pub(super) fn before_all(&self, position: &mut GtidPosition) -> Result<(), TooManyIntervals> {
        // The first of a domain decides, and it was prepared after the least of their predecessors.
        let mut least: BTreeMap<u32, Option<MariaGtid>> = BTreeMap::new();
        for held in self.held.values() {
            match (&mut *position, held.gtid) {
                (GtidPosition::MySql(set), AnyGtid::MySql(gtid)) => {
                    set.remove(gtid)?;
                }
                (GtidPosition::Maria(_), AnyGtid::Maria(gtid)) => {
                    let sequence = |gtid: &Option<MariaGtid>| gtid.map(|gtid| gtid.sequence);
                    let one = least.entry(gtid.domain).or_insert(held.before);
                    if sequence(&held.before) < sequence(one) {
                        *one = held.before;
                    }
                }
                // Positions take transactions of their own product only.
                (GtidPosition::MySql(_), AnyGtid::Maria(_))
                | (GtidPosition::Maria(_), AnyGtid::MySql(_)) => (),
            }
        }
        if let GtidPosition::Maria(position) = position {
            for (domain, before) in least {
                match before {
                    Some(gtid) => position.advance(gtid)?,
                    None => position.forget(domain),
                }
            }
        }
        Ok(())
    }
}
