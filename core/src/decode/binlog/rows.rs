//! Row events: which rows a statement wrote, changed or deleted.
//!
//! ```text
//! table id      6 bytes, or 4 if the event's post-header has 6
//! flags         2 bytes
//! extra         only version 2: 2 bytes of a length that counts itself, and what that leaves
//! columns       packed count
//! present       a bit for each column; of an update two times, for before and after
//! rows          each: a bit for each present column whether it is NULL, and the values that are not
//! ```
//!
//! (MySQL's source, `Rows_event` in `libbinlogevents`.) A column that is not present was not sent
//! (`binlog_row_image`), which is something else than NULL. After-images of a partial update have in
//! front a packed number of options and, if its bit 0 is set, a bit for each JSON column of the table,
//! present or not, that says whether changes of the document came instead of it.
use alloc::vec::Vec;
use core::ops::Range;

use super::cells::{close, open, push_null, push_unchanged};
use super::cells_read::{FieldError, FieldFault, Fields, Input};
use super::json_change;
use super::table_map::{bit, bitmap_len, table_id};
use super::value_error::{RowsError, ValueFault};
use super::value_plan::{Planned, RowPlan};

/// The flag of the last row event of a statement: the maps it used end with it.
const STATEMENT_END: u16 = 1;
/// The option of an after-image that it may have changes of documents.
const PARTIAL_JSON: u64 = 1;

/// What a row event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsChange {
    /// New rows.
    Write,
    /// Rows before and after a change.
    Update,
    /// Rows that are gone.
    Delete,
}

/// What a type of row events looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsKind {
    /// What it is about.
    pub change: RowsChange,
    /// Whether there is extra information in front: version 2.
    pub extra: bool,
    /// Whether JSON documents may come as changes.
    pub partial: bool,
}

impl RowsKind {
    /// The kind of an event of this type code, if it has rows. MariaDB's compressed events are of the
    /// same kind as what they hold.
    #[must_use]
    pub const fn of_code(code: u8) -> Option<Self> {
        let (change, extra) = match code {
            23 | 166 => (RowsChange::Write, false),
            24 | 167 => (RowsChange::Update, false),
            25 | 168 => (RowsChange::Delete, false),
            30 | 169 => (RowsChange::Write, true),
            31 | 170 | 39 => (RowsChange::Update, true),
            32 | 171 => (RowsChange::Delete, true),
            _ => return None,
        };
        Some(Self { change, extra, partial: code == 39 })
    }
}

/// A row event whose rows are still bytes.
#[derive(Clone, Copy, Debug)]
pub struct RowsEvent<'a> {
    /// What it is about.
    pub kind: RowsKind,
    /// Which map says what the columns are.
    pub table_id: u64,
    /// Flags as sent; see [`is_statement_end`](Self::is_statement_end).
    pub flags: u16,
    /// Columns of the table.
    pub columns: usize,
    before: &'a [u8],
    after: &'a [u8],
    rows: &'a [u8],
}

impl<'a> RowsEvent<'a> {
    /// Reads the front of a body, without header and checksum, and not compressed. `post_header_len` is
    /// what the FORMAT_DESCRIPTION event says of this type.
    ///
    /// # Errors
    ///
    /// The event is cut off in front of its rows.
    pub fn parse(kind: RowsKind, post_header_len: u8, body: &'a [u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::new("row", body);
        let table_id = table_id(&mut fields, post_header_len)?;
        let flags = fields.read("flags", Input::u16)?;
        if kind.extra {
            let at = fields;
            let len = fields.read("extra length", Input::u16)?;
            let Some(left) = usize::from(len).checked_sub(2) else {
                return Err(at.error("extra length", FieldFault::Value { found: len.into() }));
            };
            fields.read("extra", |input| input.bytes(left))?;
        }
        let columns = fields.read("column count", Input::packed_len)?;
        let mut present = |field| fields.read(field, |input| input.bytes(bitmap_len(columns)));
        let (before, after) = match kind.change {
            RowsChange::Write => (&[][..], present("columns after")?),
            RowsChange::Update => (present("columns before")?, present("columns after")?),
            RowsChange::Delete => (present("columns before")?, &[][..]),
        };
        Ok(Self { kind, table_id, flags, columns, before, after, rows: fields.rest() })
    }

    /// Whether the statement ends with this event, and with it the maps it used.
    #[must_use]
    pub const fn is_statement_end(&self) -> bool {
        self.flags & STATEMENT_END != 0
    }
}

/// Where the images of one row stand in the buffer that they were appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The cells before the change; of an update and a delete.
    pub before: Option<Range<usize>>,
    /// The cells after the change; of a write and an update.
    pub after: Option<Range<usize>>,
}

impl RowPlan {
    /// Begins to read the rows of an event.
    ///
    /// # Errors
    ///
    /// The event is of another table, or of as many columns as this one does not have.
    pub fn rows<'a>(&'a self, event: &RowsEvent<'a>) -> Result<Rows<'a>, RowsError> {
        let table = || self.table.clone();
        if event.table_id != self.table_id {
            let (expected, found) = (self.table_id, event.table_id);
            return Err(RowsError::OtherTable { table: table(), expected, found });
        }
        if event.columns != self.columns.len() {
            let (expected, found) = (self.columns.len(), event.columns);
            return Err(RowsError::Columns { table: table(), expected, found });
        }
        let has_columns = |present: &[u8]| present.iter().any(|byte| *byte != 0);
        let empty = event.rows.is_empty();
        // Rows of no column have no bytes: one such is all that an event can tell.
        let one_empty = empty && !has_columns(event.before) && !has_columns(event.after);
        Ok(Rows {
            plan: self,
            event: *event,
            input: Input::new(event.rows),
            one_empty,
            documents: Vec::new(),
        })
    }
}

/// Reads the rows of one event, one after the other.
#[derive(Debug)]
pub struct Rows<'a> {
    plan: &'a RowPlan,
    event: RowsEvent<'a>,
    input: Input<'a>,
    one_empty: bool,
    // Of the row before the change, the documents in the order of the JSON columns; `None` if not sent.
    documents: Vec<Option<&'a [u8]>>,
}

impl Rows<'_> {
    /// Appends the images of the next row to `out`, as cells of `model::row` in the order of the table's
    /// columns; `None` after the last one. After an error nothing in `out` behind its former end is of
    /// any use, and no further row can be read.
    ///
    /// # Errors
    ///
    /// The event is cut off, or a value cannot be read.
    pub fn read_next(&mut self, out: &mut Vec<u8>) -> Result<Option<Images>, RowsError> {
        let left = self.input.left();
        if left == 0 && !core::mem::take(&mut self.one_empty) {
            return Ok(None);
        }
        let (mut before, mut after) = (None, None);
        if self.event.kind.change != RowsChange::Write {
            before = Some(self.image(Side::Before, out)?);
        }
        if self.event.kind.change != RowsChange::Delete {
            after = Some(self.image(Side::After, out)?);
        }
        if left != 0 && self.input.left() == left {
            return Err(RowsError::Empty { table: self.plan.table.clone() });
        }
        Ok(Some(Images { before, after }))
    }

    /// Appends the cells of one image.
    fn image(&mut self, side: Side, out: &mut Vec<u8>) -> Result<Range<usize>, RowsError> {
        let start = out.len();
        let present = if side == Side::Before { self.event.before } else { self.event.after };
        if self.event.kind.partial {
            self.partial_image(side, present, out)?;
            return Ok(start..out.len());
        }
        let nulls = nulls(&mut self.input, present);
        let nulls = nulls.ok_or_else(|| RowsError::Short { table: self.plan.table.clone() })?;
        let mut sent = 0_usize;
        for (index, column) in self.plan.columns.iter().enumerate() {
            if !bit(present, index) {
                push_unchanged(out);
                continue;
            }
            let null = bit(nulls, sent);
            sent = sent.wrapping_add(1);
            if null {
                push_null(out);
            } else {
                let read = column.kind.read(&mut self.input, self.plan.no_dates, out);
                read.map_err(|fault| self.plan.value_error(column, fault))?;
            }
        }
        Ok(start..out.len())
    }

    /// The same, of an event whose documents may come as changes.
    fn partial_image(
        &mut self,
        side: Side,
        present: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RowsError> {
        let plan = self.plan;
        let front = (|| {
            let changed =
                if side == Side::After { changed(&mut self.input, plan)? } else { &[][..] };
            Some((changed, nulls(&mut self.input, present)?))
        })();
        let (changed, nulls) =
            front.ok_or_else(|| RowsError::Short { table: plan.table.clone() })?;
        if side == Side::Before {
            self.documents.clear();
        }
        let (mut sent, mut documents) = (0_usize, 0_usize);
        for (index, column) in plan.columns.iter().enumerate() {
            let document = documents;
            let json = column.kind.document().is_some();
            documents = documents.wrapping_add(usize::from(json));
            let here = bit(present, index);
            let null = here && bit(nulls, sent);
            sent = sent.wrapping_add(usize::from(here));
            let mut known = None;
            if !here {
                push_unchanged(out);
            } else if null {
                push_null(out);
            } else {
                let base = self.documents.get(document).copied().flatten();
                let len = column.kind.document();
                known = len.and_then(|len| { self.input }.counted(len));
                let read = match len.filter(|_| bit(changed, document)) {
                    Some(len) => self.changed_document(base, len, out),
                    None => column.kind.read(&mut self.input, plan.no_dates, out),
                };
                read.map_err(|fault| plan.value_error(column, fault))?;
            }
            if json && side == Side::Before {
                self.documents.push(known);
            }
        }
        Ok(())
    }

    /// Appends the cell of a document that came as changes.
    fn changed_document(
        &mut self,
        base: Option<&[u8]>,
        len: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueFault> {
        let changes = self.input.counted(len).ok_or(ValueFault::Short)?;
        let base = base.ok_or(ValueFault::JsonBase)?;
        let start = open(out);
        json_change::put(out, base, changes)?;
        close(out, start)
    }
}

/// Which image of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// The bits that say which of the present columns are NULL.
#[inline]
fn nulls<'a>(input: &mut Input<'a>, present: &[u8]) -> Option<&'a [u8]> {
    let sent = present.iter().fold(0_u32, |sum, byte| sum.saturating_add(byte.count_ones()));
    input.bytes(bitmap_len(usize::try_from(sent).ok()?))
}

/// The bits that say which documents came as changes.
fn changed<'a>(input: &mut Input<'a>, plan: &RowPlan) -> Option<&'a [u8]> {
    if input.packed()? & PARTIAL_JSON == 0 {
        return Some(&[]);
    }
    let json = |column: &&Planned| column.kind.document().is_some();
    input.bytes(bitmap_len(plan.columns.iter().filter(json).count()))
}

impl RowPlan {
    #[cold]
    fn value_error(&self, column: &Planned, fault: ValueFault) -> RowsError {
        RowsError::Value { table: self.table.clone(), column: column.name.clone(), fault }
    }
}
