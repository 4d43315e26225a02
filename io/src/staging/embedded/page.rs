//! Reading staged rows back, in the order of their times.
use redb::ReadTransaction;
use replicator_core::model::mutation::{Mutation, TimedMutation};
use replicator_core::staged::{StagedError, decode_key, decode_value, image, layout_of};

use super::EmbeddedError;
use super::file::{OpenFile, Refused};
use super::names::{Mapping, Names, Unread};
use super::request::{Span, Stream};
use super::tables::{STAGED, STREAM_BYTES, key_after};
use crate::port::StagedPage;

/// A page of so many bytes is full, however few rows it has: rows may be large.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Reads a page; it ends with the last row of a time.
pub(super) fn read_page(
    file: &mut OpenFile,
    read: &ReadTransaction,
    stream: &Stream,
    span: Span,
) -> Result<StagedPage, Refused> {
    let OpenFile { path, names, streams, .. } = file;
    let failed = |error: redb::Error| Refused::File(EmbeddedError::database(path, error));
    let mut page = StagedPage { rows: Vec::new(), exhausted: true };
    let mut bytes: usize = 0;
    let Some(state) = streams.get_mut(&stream.name) else { return Ok(page) };
    // As many as last time, so that a large page is not moved as it grows, and a small one takes no room.
    page.rows.reserve(state.rows_likely.min(span.rows_max));
    let from = key_after(state.number, span.after);
    let before = key_after(state.number, span.through);
    if before <= from {
        return Ok(page);
    }
    let mapping = state.mapping(stream);
    let table = read.open_table(STAGED).map_err(|error| failed(error.into()))?;
    let rows = table.range::<&[u8]>(&from[..]..&before[..]);
    for row in rows.map_err(|error| failed(error.into()))? {
        let (key, value) = row.map_err(|error| failed(error.into()))?;
        let read = match mapping.is_in(names, &stream.lane, key.value()) {
            Ok(true) => decode(names, mapping, stream, key.value(), value.value()),
            Ok(false) => continue,
            Err(error) => Err(error.into()),
        };
        let row = read.map_err(|unread| Refused::Request(unread.failure(path)))?;
        let last = page.rows.last().map(|last: &TimedMutation| last.time);
        let full = span.rows_max <= page.rows.len() || PAGE_BYTES_MAX <= bytes;
        if full && last.is_some_and(|last| last < row.time) {
            page.exhausted = false;
            break;
        }
        bytes = bytes.saturating_add(row.mutation.len_bytes());
        page.rows.push(row);
    }
    state.rows_likely = page.rows.len();
    if let Some(last) = page.rows.last() {
        state.marks(&stream.lane).read(span.after, last.time, page.rows.len());
    }
    Ok(page)
}

fn decode(
    names: &Names,
    mapping: &mut Mapping,
    stream: &Stream,
    key: &[u8],
    value: &[u8],
) -> Result<TimedMutation, Unread> {
    let (time, number) = decode_key(key.get(STREAM_BYTES..).unwrap_or_default())?;
    let id = mapping.table(names, number)?;
    let layout = mapping.layout(names, id, layout_of(value)?)?;
    let change = decode_value(value, layout)?;
    let table = stream.catalog.table(id);
    let key = table.key_of(image(&change, table)?);
    let key = key.map_err(|_| StagedError::Key(table.name.clone()))?;
    Ok(TimedMutation { time, mutation: Mutation { table: id, key, change } })
}
