//! The nouns of the machine as bytes, and back.
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use super::wire::{RecordError, Rest, put_bytes, put_list, put_number, put_option, put_size};
use crate::config::{Config, OnReject, Retry};
use crate::event::Failure;
use crate::machine::{Demand, Durable};
use crate::model::catalog::{Catalog, Column, ForeignKey, Made, Table, Unique, Wire};
use crate::model::fk::Place;
use crate::model::ident::TableName;
use crate::model::key::KeyKind;
use crate::model::mutation::TableId;
use crate::model::position::{Applied, Lsn, OpId, PartitionId, Position};
use crate::model::time::{Hlc, MonoTime, WallTime};
use crate::status::Status;

type Read<T> = Result<T, RecordError>;

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(super) fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    put_number(out, duration.as_secs());
    put_number(out, u64::from(duration.subsec_nanos()));
}

pub(super) fn duration(rest: &mut Rest<'_>) -> Read<Duration> {
    let (secs, nanos) = (rest.number("a duration")?, rest.small::<u32>("a duration")?);
    // More would be carried over to the seconds, which may be as many as there can be.
    if 1_000_000_000 <= nanos {
        return Err(RecordError::Value { what: "a duration" });
    }
    Ok(Duration::new(secs, nanos))
}

pub(super) fn put_mono(out: &mut Vec<u8>, time: MonoTime) {
    put_number(out, time.as_nanos());
}

pub(super) fn mono(rest: &mut Rest<'_>) -> Read<MonoTime> {
    Ok(MonoTime::START.after(Duration::from_nanos(rest.number("a time")?)))
}

pub(super) fn put_wall(out: &mut Vec<u8>, time: WallTime) {
    out.extend_from_slice(&time.micros.to_be_bytes());
}

pub(super) fn wall(rest: &mut Rest<'_>) -> Read<WallTime> {
    Ok(WallTime { micros: i64::from_be_bytes(rest.array("a time of day")?) })
}

pub(super) fn put_hlc(out: &mut Vec<u8>, hlc: Hlc) {
    put_number(out, hlc.nanos);
    put_number(out, u64::from(hlc.logical));
}

pub(super) fn hlc(rest: &mut Rest<'_>) -> Read<Hlc> {
    Ok(Hlc { nanos: rest.number("an HLC")?, logical: rest.small("an HLC")? })
}

pub(super) fn put_position(out: &mut Vec<u8>, position: Position) {
    match position {
        Position::Hlc(hlc) => {
            out.push(0);
            put_hlc(out, hlc);
        }
        Position::Lsn(Lsn(bytes)) => {
            out.push(1);
            put_number(out, bytes);
        }
        Position::Ordinal(number) => {
            out.push(2);
            put_number(out, number);
        }
    }
}

pub(super) fn position(rest: &mut Rest<'_>) -> Read<Position> {
    match rest.byte("a position")? {
        0 => Ok(Position::Hlc(hlc(rest)?)),
        1 => Ok(Position::Lsn(Lsn(rest.number("a position")?))),
        2 => Ok(Position::Ordinal(rest.number("a position")?)),
        _ => Err(RecordError::Value { what: "a position" }),
    }
}

fn maybe_position(rest: &mut Rest<'_>) -> Read<Option<Position>> {
    rest.option("a position", position)
}

pub(super) fn op(rest: &mut Rest<'_>) -> Read<OpId> {
    Ok(OpId(rest.number("an operation")?))
}

pub(super) fn put_range(out: &mut Vec<u8>, range: &Range<usize>) {
    put_size(out, range.start);
    put_size(out, range.end);
}

fn range(rest: &mut Rest<'_>) -> Read<Range<usize>> {
    Ok(rest.small("a range")?..rest.small("a range")?)
}

pub(super) fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    let refused = |out: &mut Vec<u8>, detail: &str, at: Option<&Range<usize>>| {
        put_text(out, detail);
        put_option(out, at, put_range);
    };
    match failure {
        Failure::Transient { detail } => {
            out.push(0);
            put_text(out, detail);
        }
        Failure::OutcomeUnknown { detail } => {
            out.push(1);
            put_text(out, detail);
        }
        Failure::Constraint { detail, at } => {
            out.push(2);
            refused(out, detail, at.as_ref());
        }
        Failure::Rejected { detail, at } => {
            out.push(3);
            refused(out, detail, at.as_ref());
        }
        Failure::Fenced => out.push(4),
    }
}

pub(super) fn failure(rest: &mut Rest<'_>) -> Read<Failure> {
    let kind = rest.byte("a failure")?;
    if kind == 4 {
        return Ok(Failure::Fenced);
    }
    let detail = rest.text("a failure")?;
    match kind {
        0 => Ok(Failure::Transient { detail }),
        1 => Ok(Failure::OutcomeUnknown { detail }),
        2 => Ok(Failure::Constraint { detail, at: rest.option("a range", range)? }),
        3 => Ok(Failure::Rejected { detail, at: rest.option("a range", range)? }),
        _ => Err(RecordError::Value { what: "a failure" }),
    }
}

pub(super) fn put_config(out: &mut Vec<u8>, config: &Config) {
    let Config {
        batch_rows_max,
        batch_txs_max,
        batch_growth_max,
        batch_age_max,
        buffered_bytes_max,
        stages_max,
        applies_max,
        retry: Retry { tries_max, delay_first, delay_max, factor },
        read_rows_max,
        save_interval,
        on_reject,
        collapse,
        seed,
    } = *config;
    for size in [
        batch_rows_max,
        batch_txs_max,
        batch_growth_max,
        buffered_bytes_max,
        stages_max,
        applies_max,
    ] {
        put_size(out, size);
    }
    for number in [tries_max, factor, read_rows_max] {
        put_number(out, u64::from(number));
    }
    for duration in [batch_age_max, delay_first, delay_max, save_interval] {
        put_duration(out, duration);
    }
    match on_reject {
        OnReject::Stop => out.push(0),
        OnReject::DeadLetter { percent_max } => out.extend_from_slice(&[1, percent_max]),
    }
    out.push(u8::from(collapse));
    out.extend_from_slice(&seed.to_be_bytes());
}

pub(super) fn config(rest: &mut Rest<'_>) -> Read<Config> {
    let what = "the configuration";
    let (batch_rows_max, batch_txs_max) = (rest.small(what)?, rest.small(what)?);
    let (batch_growth_max, buffered_bytes_max) = (rest.small(what)?, rest.small(what)?);
    let (stages_max, applies_max) = (rest.small(what)?, rest.small(what)?);
    let (tries_max, factor, read_rows_max) =
        (rest.small(what)?, rest.small(what)?, rest.small(what)?);
    let batch_age_max = duration(rest)?;
    let (delay_first, delay_max) = (duration(rest)?, duration(rest)?);
    Ok(Config {
        batch_rows_max,
        batch_txs_max,
        batch_growth_max,
        batch_age_max,
        buffered_bytes_max,
        stages_max,
        applies_max,
        retry: Retry { tries_max, delay_first, delay_max, factor },
        read_rows_max,
        save_interval: duration(rest)?,
        on_reject: match rest.byte(what)? {
            0 => OnReject::Stop,
            1 => OnReject::DeadLetter { percent_max: rest.byte(what)? },
            _ => return Err(RecordError::Value { what }),
        },
        collapse: rest.bool(what)?,
        seed: u64::from_be_bytes(rest.array(what)?),
    })
}

pub(super) fn put_durable(out: &mut Vec<u8>, durable: &Durable) {
    let Durable { checkpoint, applied, resolved } = durable;
    put_option(out, *checkpoint, put_position);
    put_list(out, applied, |out, Applied { after, through }| {
        put_option(out, *after, put_position);
        put_position(out, *through);
    });
    put_size(out, resolved.len());
    for (PartitionId(partition), time) in resolved {
        put_number(out, u64::from(*partition));
        put_hlc(out, *time);
    }
}

pub(super) fn durable(rest: &mut Rest<'_>) -> Read<Durable> {
    let applied = |rest: &mut Rest<'_>| {
        Ok(Applied { after: maybe_position(rest)?, through: position(rest)? })
    };
    let resolved = |rest: &mut Rest<'_>| Ok((PartitionId(rest.small("a partition")?), hlc(rest)?));
    Ok(Durable {
        checkpoint: maybe_position(rest)?,
        applied: rest.list("applied records", applied)?,
        resolved: rest.list("resolved timestamps", resolved)?.into_iter().collect(),
    })
}

pub(super) fn put_status(out: &mut Vec<u8>, status: &Status) {
    let Status {
        checkpoint,
        applied,
        admitted,
        applied_committed,
        frontier,
        applies,
        waiting,
        buffered_rows,
        buffered_bytes,
    } = *status;
    for position in [checkpoint, applied, admitted] {
        put_option(out, position, put_position);
    }
    put_option(out, applied_committed, put_wall);
    put_hlc(out, frontier);
    for size in [applies, waiting, buffered_rows, buffered_bytes] {
        put_size(out, size);
    }
}

pub(super) fn status(rest: &mut Rest<'_>) -> Read<Status> {
    let what = "a status";
    Ok(Status {
        checkpoint: maybe_position(rest)?,
        applied: maybe_position(rest)?,
        admitted: maybe_position(rest)?,
        applied_committed: rest.option(what, wall)?,
        frontier: hlc(rest)?,
        applies: rest.small(what)?,
        waiting: rest.small(what)?,
        buffered_rows: rest.small(what)?,
        buffered_bytes: rest.small(what)?,
    })
}

pub(super) fn put_demand(out: &mut Vec<u8>, demand: Demand) {
    out.push(u8::from(demand == Demand::Read));
}

pub(super) fn demand(rest: &mut Rest<'_>) -> Read<Demand> {
    Ok(if rest.bool("a demand")? { Demand::Read } else { Demand::Pause })
}

pub(super) fn put_catalog(out: &mut Vec<u8>, catalog: &Catalog) {
    put_size(out, catalog.tables().count());
    for (_, table) in catalog.tables() {
        put_table(out, table);
    }
}

fn put_table(out: &mut Vec<u8>, table: &Table) {
    let Table { name, columns, key, uniques, foreign_keys, place, referenced, untold } = table;
    put_text(out, &name.schema);
    put_text(out, &name.table);
    put_list(out, columns, put_column);
    put_columns(out, key);
    put_list(out, uniques, |out, Unique { name, columns }| {
        put_text(out, name);
        put_option(out, columns.as_deref(), put_columns);
    });
    put_list(out, foreign_keys, |out, fk| {
        let ForeignKey { name, columns, parent, parent_columns, deferrable } = fk;
        put_text(out, name);
        put_columns(out, columns);
        put_number(out, u64::from(parent.0));
        put_columns(out, parent_columns);
        out.push(u8::from(*deferrable));
    });
    let Place { group, level, cyclic } = *place;
    put_number(out, u64::from(group));
    put_number(out, u64::from(level));
    out.extend_from_slice(&[u8::from(cyclic), u8::from(*referenced) | u8::from(*untold) << 1]);
}

fn put_columns(out: &mut Vec<u8>, columns: &[u16]) {
    put_list(out, columns, |out, column| put_number(out, u64::from(*column)));
}

fn columns(rest: &mut Rest<'_>) -> Read<Vec<u16>> {
    rest.list("columns", |rest| rest.small("a column"))
}

fn put_column(out: &mut Vec<u8>, column: &Column) {
    let Column { name, cast, kind, wire, nullable, made, has_default } = column;
    put_text(out, name);
    put_text(out, cast);
    out.push(match kind {
        KeyKind::Int => 0,
        KeyKind::Numeric => 1,
        KeyKind::Float => 2,
        KeyKind::Padded => 3,
        KeyKind::Exact => 4,
        KeyKind::Loose => 5,
    });
    out.push(match wire {
        Wire::Text => 0,
        Wire::Int2 => 1,
        Wire::Int4 => 2,
        Wire::Int8 => 3,
    });
    out.push(match made {
        Made::Written => 0,
        Made::IdentityAlways => 1,
        Made::Generated => 2,
    });
    out.extend_from_slice(&[u8::from(*nullable), u8::from(*has_default)]);
}

fn column(rest: &mut Rest<'_>) -> Read<Column> {
    let what = "a column";
    Ok(Column {
        name: rest.text(what)?,
        cast: rest.text(what)?,
        kind: match rest.byte(what)? {
            0 => KeyKind::Int,
            1 => KeyKind::Numeric,
            2 => KeyKind::Float,
            3 => KeyKind::Padded,
            4 => KeyKind::Exact,
            5 => KeyKind::Loose,
            _ => return Err(RecordError::Value { what }),
        },
        wire: match rest.byte(what)? {
            0 => Wire::Text,
            1 => Wire::Int2,
            2 => Wire::Int4,
            3 => Wire::Int8,
            _ => return Err(RecordError::Value { what }),
        },
        made: match rest.byte(what)? {
            0 => Made::Written,
            1 => Made::IdentityAlways,
            2 => Made::Generated,
            _ => return Err(RecordError::Value { what }),
        },
        nullable: rest.bool(what)?,
        has_default: rest.bool(what)?,
    })
}

pub(super) fn catalog(rest: &mut Rest<'_>) -> Read<Catalog> {
    let tables = rest.list("tables", table)?;
    Catalog::from_tables(tables).ok_or(RecordError::Value { what: "the catalog" })
}

fn table(rest: &mut Rest<'_>) -> Read<Table> {
    let what = "a table";
    let name = |rest: &mut Rest<'_>| -> Read<String> { rest.text(what) };
    let table = Table {
        name: TableName { schema: name(rest)?, table: name(rest)? },
        columns: rest.list(what, column)?,
        key: columns(rest)?,
        uniques: rest.list(what, |rest| {
            Ok(Unique { name: name(rest)?, columns: rest.option(what, columns)? })
        })?,
        foreign_keys: rest.list(what, |rest| {
            Ok(ForeignKey {
                name: name(rest)?,
                columns: columns(rest)?,
                parent: TableId(rest.small(what)?),
                parent_columns: columns(rest)?,
                deferrable: rest.bool(what)?,
            })
        })?,
        place: Place {
            group: rest.small(what)?,
            level: rest.small(what)?,
            cyclic: rest.bool(what)?,
        },
        referenced: false,
        untold: false,
    };
    // One after the other, so that recordings from before the second one are read.
    let (referenced, untold) = match rest.byte(what)? {
        flags @ 0..=3 => (flags & 1 != 0, flags & 2 != 0),
        _ => return Err(RecordError::Value { what }),
    };
    Ok(Table { referenced, untold, ..table })
}
