//! Columns of the source → columns of the target.
//!
//! Nothing announces the columns of a changefeed, each row names them again. Rows of one table have
//! the same names in the same order nearly always, so they are looked up once and then only compared.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::envelope::{EVENT, META};
use super::error::{RowFault, ValueFault};
use super::json::{Cursor, Kind, Members, Raw};
use super::names::TargetKind;
use super::value::{Codec, Room};
use crate::decode::fit::{KEYLESS, check_key, check_missing};
use crate::model::catalog::{Made, Table};
use crate::model::mutation::TableId;
use crate::model::row::{Layout, Row};
use crate::stop::SchemaDrift;

/// How many shapes of one table are remembered. A table has two while its schema changes.
const SHAPES_MAX: usize = 8;

/// A column that CockroachDB keeps for itself, in tables with row-level TTL. Not a difference of the
/// schemas: the target would have no use for it.
const EXPIRATION: &str = "crdb_internal_expiration";

/// Why a row does not fit its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The row is broken.
    Row(RowFault),
    /// Source and target do not agree.
    Drift(SchemaDrift),
    /// The value of this column is wrong.
    Value(u16, ValueFault),
}

/// A target table, and what rows of it look like.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    id: TableId,
    target: TargetKind,
    /// For each column of the target.
    codecs: Vec<Codec>,
    /// The columns of the key: all that is said of a row that is gone.
    identity: Arc<Layout>,
    /// The last one used comes first.
    shapes: Vec<Shape>,
}

/// The names of a row in their order, and what they are on the target.
#[derive(Clone, Debug)]
struct Shape {
    members: Vec<Member>,
    layout: Arc<Layout>,
}

#[derive(Clone, Debug)]
struct Member {
    /// As it stands between its quotes.
    name: Box<[u8]>,
    /// The same with its quotes and the colon, as it stands in nearly every row.
    quoted: Box<[u8]>,
    /// `None`: not applied.
    column: Option<(u16, Codec)>,
    /// Whether the column is part of the key.
    key: bool,
}

impl Plan {
    pub(super) fn new(target: TargetKind, id: TableId, table: &Table) -> Self {
        let codecs = table.columns.iter().map(|column| Codec::of(target, column)).collect();
        let columns = table.key.iter().copied().map(Some).collect();
        let identity = Arc::new(Layout { table: id, columns });
        Self { id, target, codecs, identity, shapes: Vec::new() }
    }

    /// Makes a row of an object that has a member for each column.
    pub(super) fn row(
        &mut self,
        table: &Table,
        object: Raw<'_>,
        room: &mut Room,
    ) -> Result<Row, Misfit> {
        let mut fitting = None;
        for (index, shape) in self.shapes.iter().enumerate() {
            if shape.fill(&mut Members::new(object), room)? {
                fitting = Some(index);
                break;
            }
        }
        if let Some(older) = fitting.and_then(|index| self.shapes.get_mut(..=index)) {
            older.rotate_right(1);
        } else {
            let shape = self.shape(table, object)?;
            shape.fill(&mut Members::new(object), room)?;
            self.shapes.truncate(SHAPES_MAX.saturating_sub(1));
            self.shapes.insert(0, shape);
        }
        self.take(room)
    }

    /// Goes over the object that is next if it is a row like the last one, and makes cells of it;
    /// returns what follows it. The object need not have been read before.
    #[inline]
    pub(super) fn guess<'a>(&self, object: Cursor<'a>, room: &mut Room) -> Option<Cursor<'a>> {
        let mut cursor = object;
        let shape = self.shapes.first().filter(|_| cursor.eat(b'{'))?;
        let mut members = Members::after_brace(cursor);
        let fits = shape.fill(&mut members, room).unwrap_or_default();
        fits.then_some(*members.cursor())
    }

    /// The row whose cells were made last.
    pub(super) fn take(&self, room: &Room) -> Result<Row, Misfit> {
        let layout = self.shapes.first().map_or(&self.identity, |shape| &shape.layout);
        room.cells.copy(Arc::clone(layout)).map_err(|_| Misfit::Row(RowFault::NotObject))
    }

    /// Makes the image of a row that is gone, of the values of its key in the order of the key.
    pub(super) fn gone(
        &self,
        table: &Table,
        values: &[Raw<'_>],
        room: &mut Room,
    ) -> Result<Row, Misfit> {
        room.cells.clear();
        for (column, value) in table.key.iter().zip(values) {
            let wrong = |fault| Misfit::Value(*column, fault);
            if value.kind == Kind::Null {
                return Err(wrong(ValueFault::KeyNull));
            }
            let codec = self.codecs.get(usize::from(*column)).copied();
            let Some(codec) = codec else { continue };
            codec.push(room, *value).map_err(wrong)?;
        }
        let layout = Arc::clone(&self.identity);
        room.cells.copy(layout).map_err(|_| {
            let (table, got, expected) = (table.name.clone(), values.len(), table.key.len());
            Misfit::Row(RowFault::KeyLength { table, got, expected })
        })
    }

    /// The values of the key in an object, in the order of the key; `None` if one is not there. Other
    /// members are not looked at: a column that was dropped may still be among them.
    pub(super) fn key_values<'a>(&self, table: &Table, object: Raw<'a>) -> Option<Vec<Raw<'a>>> {
        let mut values: Vec<Option<Raw<'a>>> = alloc::vec![None; table.key.len()];
        let mut members = Members::new(object);
        while let Ok(Some((name, value))) = members.next_member() {
            let name = name.text().ok()?;
            let column = self.target.find_column(table, core::str::from_utf8(&name).ok()?);
            let at = table.key.iter().position(|key| Some(*key) == column);
            if let Some(slot) = at.and_then(|at| values.get_mut(at)) {
                *slot = Some(value);
            }
        }
        values.into_iter().collect()
    }

    /// Looks the members of an object up.
    fn shape(&self, table: &Table, object: Raw<'_>) -> Result<Shape, Misfit> {
        let mut found = Vec::new();
        let mut unexpected: Vec<String> = Vec::new();
        let mut indexes: Vec<u16> = Vec::new();
        let mut members = Members::new(object);
        while let Ok(Some((name, _))) = members.next_member() {
            let text = name.text().map_err(|_| Misfit::Row(RowFault::NotObject))?;
            let text = core::str::from_utf8(&text).unwrap_or_default();
            let quoted = [b"\"", name.raw, b"\":"].concat().into();
            let mut member = Member { name: name.raw.into(), quoted, column: None, key: false };
            if let Some(index) = self.target.find_column(table, text) {
                if indexes.contains(&index) {
                    let (table, column) = (table.name.clone(), text.to_owned());
                    return Err(Misfit::Row(RowFault::ColumnTwice { table, column }));
                }
                indexes.push(index);
                let codec = self.codecs.get(usize::from(index)).copied();
                let written = table.column(index).made != Made::Generated;
                member.key = table.key.contains(&index);
                member.column = codec.filter(|_| written).map(|codec| (index, codec));
            } else if !is_about_the_row(text) {
                unexpected.push(text.to_owned());
            }
            found.push(member);
        }
        if !unexpected.is_empty() {
            let (table, columns) = (table.name.clone(), unexpected.join(", "));
            return Err(Misfit::Drift(SchemaDrift::UnexpectedColumns { table, columns }));
        }
        if table.key.is_empty() {
            return Err(Misfit::Drift(keyless(table)));
        }
        let missing = |column: u16| !indexes.contains(&column);
        check_key(table, &"the changefeed", missing).map_err(Misfit::Drift)?;
        check_missing(table, missing).map_err(Misfit::Drift)?;
        let columns = found.iter().filter_map(|member| member.column.map(|(index, _)| Some(index)));
        let layout = Layout { table: self.id, columns: columns.collect() };
        // Names that are escaped in another way are the same columns.
        let known = self.shapes.iter().find(|shape| *shape.layout == layout);
        let layout = known.map_or_else(|| Arc::new(layout), |shape| Arc::clone(&shape.layout));
        Ok(Shape { members: found, layout })
    }
}

impl Shape {
    /// Makes cells of an object; returns whether its members are those of the shape.
    fn fill(&self, members: &mut Members<'_>, room: &mut Room) -> Result<bool, Misfit> {
        room.cells.clear();
        for member in &self.members {
            if !members.skip_name(&member.quoted) {
                match members.next_name() {
                    Ok(Some(name)) if *member.name == *name.raw => (),
                    Ok(_) | Err(_) => return Ok(false),
                }
            }
            // As deep as it is for whoever reads the object as a whole.
            let Ok(value) = members.cursor().value_below(1) else { return Ok(false) };
            if let Some((column, codec)) = member.column {
                let wrong = |fault| Misfit::Value(column, fault);
                if member.key && value.kind == Kind::Null {
                    return Err(wrong(ValueFault::KeyNull));
                }
                codec.push(room, value).map_err(wrong)?;
            }
        }
        Ok(matches!(members.next_name(), Ok(None)))
    }
}

/// A row that may come again needs a key by which it is known.
pub(super) fn keyless(table: &Table) -> SchemaDrift {
    SchemaDrift::NoKey { table: table.name.clone(), reason: KEYLESS.into() }
}

/// Members that a row has besides its columns.
fn is_about_the_row(name: &str) -> bool {
    name == EXPIRATION || [META, EVENT].contains(&name.as_bytes())
}
