//! The events that name a transaction of MySQL, in both their forms.
use super::cursor::Cursor;
use super::error::{DecodeError, Fault};
use super::event::GtidEvent;
use crate::model::gtid::{GNO_MAX, Gtid, Tag, Tsid, Uuid};

/// Says that the numbers of the file follow.
const LOGICAL_CLOCK: u8 = 2;
/// Of a time: the time of the first server follows.
const HAS_ORIGINAL_COMMIT: u64 = 1 << 55;
/// Of a version: the version of the first server follows.
const HAS_ORIGINAL_VERSION: u32 = 1 << 31;

/// Reads GTID_LOG_EVENT and ANONYMOUS_GTID_LOG_EVENT. What comes after the post-header was added over
/// the years, each after the other (`Gtid_event::Gtid_event` in `control_events.cpp`).
pub(super) fn read(
    post: usize,
    mut body: Cursor<'_>,
    named: bool,
) -> Result<GtidEvent, DecodeError> {
    let mut head = body.part("post-header", post)?;
    let flags = head.u8("flags")?;
    let uuid = Uuid(head.chunk("UUID")?);
    let at = head;
    let gno = head.u64("number")?;
    let mut event = GtidEvent { flags, ..EMPTY };
    if named {
        check_number(at, gno)?;
        event.gtid = Some(Gtid { tsid: Tsid { uuid, tag: Tag::NONE }, gno });
    }
    if head.left() > 0 {
        let at = head;
        let kind = head.u8("kind of clock")?;
        if kind != LOGICAL_CLOCK {
            return Err(at.error("kind of clock", Fault::Value { found: u64::from(kind) }));
        }
        event.last_committed = head.u64("last committed")?.cast_signed();
        event.sequence_number = Some(head.u64("sequence number")?.cast_signed());
    }
    if body.left() > 0 {
        let time = body.wide::<7>("immediate commit")?;
        event.immediate_commit = Some(time & !HAS_ORIGINAL_COMMIT);
        if time & HAS_ORIGINAL_COMMIT != 0 {
            event.original_commit = Some(body.wide::<7>("original commit")?);
        }
    }
    if body.left() > 0 {
        event.transaction_bytes = Some(body.packed("transaction length")?);
    }
    if body.left() > 0 {
        let version = body.u32("immediate version")?;
        event.immediate_version = Some(version & !HAS_ORIGINAL_VERSION);
        if version & HAS_ORIGINAL_VERSION != 0 {
            event.original_version = Some(body.u32("original version")?);
        }
    }
    if body.left() > 0 {
        event.commit_group_ticket = Some(body.u64("commit group ticket")?);
    }
    Ok(event)
}

const EMPTY: GtidEvent = GtidEvent {
    gtid: None,
    flags: 0,
    last_committed: 0,
    sequence_number: None,
    immediate_commit: None,
    original_commit: None,
    transaction_bytes: None,
    immediate_version: None,
    original_version: None,
    commit_group_ticket: None,
};

fn check_number(at: Cursor<'_>, gno: u64) -> Result<(), DecodeError> {
    if (1..=GNO_MAX).contains(&gno) {
        return Ok(());
    }
    Err(at.error("number", Fault::Value { found: gno }))
}

/// The numbers of the fields of GTID_TAGGED_LOG_EVENT (`Gtid_event::define_fields`).
mod field {
    pub(super) const FLAGS: u64 = 0;
    pub(super) const UUID: u64 = 1;
    pub(super) const GNO: u64 = 2;
    pub(super) const TAG: u64 = 3;
    pub(super) const LAST_COMMITTED: u64 = 4;
    pub(super) const SEQUENCE_NUMBER: u64 = 5;
    pub(super) const IMMEDIATE_COMMIT: u64 = 6;
    pub(super) const ORIGINAL_COMMIT: u64 = 7;
    pub(super) const TRANSACTION_BYTES: u64 = 8;
    pub(super) const IMMEDIATE_VERSION: u64 = 9;
    pub(super) const ORIGINAL_VERSION: u64 = 10;
    pub(super) const COMMIT_GROUP_TICKET: u64 = 11;
}

/// The only version of the serialisation.
const SERIALISATION: u64 = 1;

/// Reads GTID_TAGGED_LOG_EVENT: a version, the length of all, the last field that must be understood,
/// then fields by their numbers (`mysql::serialization`, "message format").
pub(super) fn read_tagged(post: usize, mut body: Cursor<'_>) -> Result<GtidEvent, DecodeError> {
    body.part("post-header", post)?;
    let begin = body;
    let version = body.varlen("serialisation version")?;
    if version != SERIALISATION {
        let fault = Fault::Value { found: version };
        return Err(begin.error("serialisation version", fault));
    }
    let at = body;
    let said = usize::try_from(body.varlen("message length")?).unwrap_or(usize::MAX);
    if said != begin.left() {
        return Err(at.error("message length", Fault::Size { said, found: begin.left() }));
    }
    let last_needed = body.varlen("last field that must be known")?;
    let mut event = EMPTY;
    let (mut uuid, mut gno, mut tag) = (None, None, Tag::NONE);
    let mut next = 0;
    while body.left() > 0 {
        let at = body;
        let number = body.varlen("field")?;
        let unknown = at.error("field", Fault::Value { found: number });
        if number < next {
            return Err(unknown);
        }
        next = number.saturating_add(1);
        match number {
            field::FLAGS => {
                event.flags = small(&mut body, "flags")?;
            }
            field::UUID => uuid = Some(read_uuid(&mut body)?),
            field::GNO => {
                let at = body;
                let found = body.varlen_signed("number")?.cast_unsigned();
                check_number(at, found)?;
                gno = Some(found);
            }
            field::TAG => tag = read_tag(&mut body)?,
            field::LAST_COMMITTED => event.last_committed = body.varlen_signed("last committed")?,
            field::SEQUENCE_NUMBER => {
                event.sequence_number = Some(body.varlen_signed("sequence number")?);
            }
            _ if !read_later(number, &mut body, &mut event)? => {
                if number <= last_needed {
                    return Err(unknown);
                }
                // How long it is cannot be known, but later versions say that it does not matter.
                break;
            }
            _ => (),
        }
    }
    let missing = |field| begin.error(field, Fault::Short { needed: 1, left: 0 });
    let uuid = uuid.ok_or_else(|| missing("UUID"))?;
    let gno = gno.ok_or_else(|| missing("number"))?;
    event.gtid = Some(Gtid { tsid: Tsid { uuid, tag }, gno });
    Ok(event)
}

/// Reads a field of the second half. Returns whether there is one of this number.
fn read_later(
    number: u64,
    body: &mut Cursor<'_>,
    event: &mut GtidEvent,
) -> Result<bool, DecodeError> {
    match number {
        field::IMMEDIATE_COMMIT => {
            event.immediate_commit = Some(body.varlen("immediate commit")?);
        }
        field::ORIGINAL_COMMIT => event.original_commit = Some(body.varlen("original commit")?),
        field::TRANSACTION_BYTES => {
            event.transaction_bytes = Some(body.varlen("transaction length")?);
        }
        field::IMMEDIATE_VERSION => {
            event.immediate_version = Some(small(body, "immediate version")?);
        }
        field::ORIGINAL_VERSION => event.original_version = Some(small(body, "original version")?),
        field::COMMIT_GROUP_TICKET => {
            event.commit_group_ticket = Some(body.varlen("commit group ticket")?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Sixteen numbers below 256.
fn read_uuid(body: &mut Cursor<'_>) -> Result<Uuid, DecodeError> {
    let mut uuid = Uuid([0; 16]);
    for byte in &mut uuid.0 {
        *byte = small(body, "UUID")?;
    }
    Ok(uuid)
}

fn read_tag(body: &mut Cursor<'_>) -> Result<Tag, DecodeError> {
    let at = *body;
    let len = body.varlen("length of the tag")?;
    let text = body.bytes_wide("tag", len)?;
    Tag::new(text).ok_or_else(|| at.error("tag", Fault::Value { found: len }))
}

/// A number that fits its field.
fn small<N: TryFrom<u64>>(body: &mut Cursor<'_>, field: &'static str) -> Result<N, DecodeError> {
    let at = *body;
    let found = body.varlen(field)?;
    N::try_from(found).map_err(|_| at.error(field, Fault::Value { found }))
}
