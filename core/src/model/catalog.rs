//! The target's tables, columns and constraints, as far as replication depends on them.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::fk::{Place, place};
use super::ident::TableName;
use super::key::{KeyBuilder, KeyKind, KeyUnknown, RowKey};
use super::mutation::TableId;
use super::row::{Cell, Row};

/// The tables of one target schema. [`TableId`]s are numbered parents first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    tables: Vec<Table>,
    by_name: BTreeMap<TableName, TableId>,
}

/// One target table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its full name.
    pub name: TableName,
    /// In the order of the target's catalog.
    pub columns: Vec<Column>,
    /// Indexes of the columns that identify a row: the primary key, or else a unique index without
    /// nullable columns. Empty if there is none.
    pub key: Vec<u16>,
    /// Other unique indexes.
    pub uniques: Vec<Unique>,
    /// Foreign keys of this table.
    pub foreign_keys: Vec<ForeignKey>,
    /// Where it stands among its relatives.
    pub place: Place,
    /// Whether some table, perhaps this one, refers to it.
    pub referenced: bool,
    /// Whether foreign keys that refer to it may change rows of which the source does not tell (ON DELETE CASCADE and
    /// the like). Then they must do the same in the target: its rows are deleted, and get other keys, one by one and
    /// in the order of the source.
    pub untold: bool,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The SQL text of its type without length or precision, to cast a text parameter to: a cast to
    /// `varchar(3)` would cut a value off in silence, an assignment refuses it. On MySQL, where nothing is
    /// cast, the whole type; see [`mysql`](super::mysql).
    pub cast: String,
    /// How its values are compared.
    pub kind: KeyKind,
    /// The type that a bound parameter travels as.
    pub wire: Wire,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// Who makes its values.
    pub made: Made,
    /// Whether it has a default, so that a row without it can be inserted.
    pub has_default: bool,
}

/// How values of a column are sent to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// As text, cast by the server.
    Text,
    /// As 16-bit whole numbers.
    Int2,
    /// As 32-bit whole numbers.
    Int4,
    /// As 64-bit whole numbers.
    Int8,
}

/// Who makes the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    /// The writer.
    Written,
    /// An identity column that refuses values unless told otherwise (GENERATED ALWAYS AS IDENTITY).
    IdentityAlways,
    /// The server, from other columns. Never written.
    Generated,
}

/// A unique index besides the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// Its name.
    pub name: String,
    /// Its columns, or `None` if an expression or a predicate is part of it.
    pub columns: Option<Vec<u16>>,
}

/// A foreign key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The referring columns.
    pub columns: Vec<u16>,
    /// The table referred to.
    pub parent: TableId,
    /// The columns referred to, in the same order as `columns`.
    pub parent_columns: Vec<u16>,
    /// Whether its check can be put off to the end of the transaction.
    pub deferrable: bool,
}

/// A foreign key whose parent is still a name. See [`Catalog::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedForeignKey {
    /// The referring table.
    pub child: TableName,
    /// The constraint's name.
    pub name: String,
    /// The referring columns.
    pub columns: Vec<u16>,
    /// The table referred to.
    pub parent: TableName,
    /// The columns referred to.
    pub parent_columns: Vec<u16>,
    /// Whether its check can be put off to the end of the transaction.
    pub deferrable: bool,
}

impl Catalog {
    /// Numbers the tables parents first and resolves foreign keys between them. A foreign key whose
    /// other side is not among `tables` does not order anything and is left out.
    ///
    /// `place`, `referenced` and `foreign_keys` of the given tables are overwritten.
    #[must_use]
    pub fn new(mut tables: Vec<Table>, foreign_keys: &[NamedForeignKey]) -> Self {
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let number = |tables: &[Table], name: &TableName| -> Option<u32> {
            let index = tables.binary_search_by(|table| table.name.cmp(name)).ok()?;
            u32::try_from(index).ok()
        };
        let edges: BTreeSet<(u32, u32)> = foreign_keys
            .iter()
            .filter_map(|fk| Some((number(&tables, &fk.child)?, number(&tables, &fk.parent)?)))
            .collect();
        let count = u32::try_from(tables.len()).unwrap_or(u32::MAX);
        for (table, place) in tables.iter_mut().zip(place(count, &edges)) {
            table.place = place;
            table.referenced = foreign_keys.iter().any(|fk| fk.parent == table.name);
            table.foreign_keys.clear();
        }
        // Stable, so tables of one level stay in the order of their names.
        tables.sort_by_key(|table| table.place.level);
        let by_name: BTreeMap<TableName, TableId> =
            (0_u32..).zip(&tables).map(|(id, table)| (table.name.clone(), TableId(id))).collect();
        for fk in foreign_keys {
            if let (Some(child), Some(parent)) = (by_name.get(&fk.child), by_name.get(&fk.parent))
                && let Some(table) = usize::try_from(child.0).ok().and_then(|id| tables.get_mut(id))
            {
                table.foreign_keys.push(ForeignKey {
                    name: fk.name.clone(),
                    columns: fk.columns.clone(),
                    parent: *parent,
                    parent_columns: fk.parent_columns.clone(),
                    deferrable: fk.deferrable,
                });
            }
        }
        Self { tables, by_name }
    }

    /// Puts a catalog together from the tables of one, in their order. Returns `None` if they are not that: a
    /// name comes twice, or a column or a table that is named is not there.
    pub(crate) fn from_tables(tables: Vec<Table>) -> Option<Self> {
        let has = |table: &Table, columns: &[u16]| {
            columns.iter().all(|column| usize::from(*column) < table.columns.len())
        };
        for table in &tables {
            let mut uniques = table.uniques.iter().filter_map(|unique| unique.columns.as_deref());
            let whole = has(table, &table.key)
                && uniques.all(|columns| has(table, columns))
                && table.foreign_keys.iter().all(|fk| {
                    let parent = usize::try_from(fk.parent.0).ok().and_then(|id| tables.get(id));
                    parent.is_some_and(|parent| has(parent, &fk.parent_columns))
                        && has(table, &fk.columns)
                });
            if !whole || u16::try_from(table.columns.len()).is_err() {
                return None;
            }
        }
        let by_name: BTreeMap<TableName, TableId> =
            (0_u32..).zip(&tables).map(|(id, table)| (table.name.clone(), TableId(id))).collect();
        (by_name.len() == tables.len()).then_some(Self { tables, by_name })
    }

    /// The same tables, of a source that does not tell what its foreign keys change.
    #[must_use]
    pub fn with_untold_changes(mut self) -> Self {
        self.tables.iter_mut().for_each(|table| table.untold = table.referenced);
        self
    }

    /// What is known of the source's foreign keys, put into what was read anew.
    #[must_use]
    pub fn told_like(self, other: &Self) -> Self {
        let untold = other.tables.iter().any(|table| table.untold);
        if untold { self.with_untold_changes() } else { self }
    }

    /// Looks a table up by name.
    #[must_use]
    pub fn find(&self, name: &TableName) -> Option<TableId> {
        self.by_name.get(name).copied()
    }

    /// The table with this number, if it has one.
    pub(crate) fn get(&self, id: TableId) -> Option<&Table> {
        usize::try_from(id.0).ok().and_then(|index| self.tables.get(index))
    }

    /// The table with this number.
    ///
    /// # Panics
    ///
    /// The number is of another catalog.
    #[must_use]
    pub fn table(&self, id: TableId) -> &Table {
        let Some(table) = self.get(id) else { panic!("table {} is of another catalog", id.0) };
        table
    }

    /// All tables, parents first.
    pub fn tables(&self) -> impl Iterator<Item = (TableId, &Table)> {
        (0_u32..).map(TableId).zip(&self.tables)
    }

    /// Whether some foreign key can be checked at the end of a transaction.
    #[must_use]
    pub fn has_deferrable(&self) -> bool {
        self.tables.iter().any(|table| table.foreign_keys.iter().any(|fk| fk.deferrable))
    }
}

impl Table {
    /// The column with this index.
    ///
    /// # Panics
    ///
    /// The index is of another table.
    #[must_use]
    pub fn column(&self, index: u16) -> &Column {
        let Some(column) = self.columns.get(usize::from(index)) else {
            panic!("column {index} is not in table {}", self.name)
        };
        column
    }

    /// Looks a column up by name.
    #[must_use]
    pub fn find_column(&self, name: &str) -> Option<u16> {
        let index = self.columns.iter().position(|column| column.name == name)?;
        u16::try_from(index).ok()
    }

    /// Whether equal keys are equal bytes, so that changes can be netted by key.
    #[must_use]
    pub fn nets(&self) -> bool {
        !self.key.is_empty() && self.key.iter().all(|c| self.column(*c).kind != KeyKind::Loose)
    }

    /// The key of a row image.
    ///
    /// # Errors
    ///
    /// The image does not hold the value of some key column.
    pub fn key_of(&self, row: &Row) -> Result<RowKey, KeyUnknown> {
        self.tuple_of(&self.key, row)
    }

    /// The values of some columns of a row image, encoded like a key.
    ///
    /// # Errors
    ///
    /// The image does not hold the value of some column.
    pub fn tuple_of(&self, columns: &[u16], row: &Row) -> Result<RowKey, KeyUnknown> {
        let mut builder = KeyBuilder::new();
        for column in columns {
            let cell = row.columns().find(|(index, _)| index == column);
            let (_, cell) = cell.unwrap_or((*column, Cell::Unchanged));
            builder.push(self.column(*column).kind, cell)?;
        }
        Ok(builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{Catalog, NamedForeignKey, Table};
    use crate::model::fk::Place;
    use crate::model::ident::TableName;

    fn table(name: &str) -> Table {
        Table {
            name: TableName::new("public", name),
            columns: Vec::new(),
            key: Vec::new(),
            uniques: Vec::new(),
            foreign_keys: Vec::new(),
            place: Place::default(),
            referenced: false,
            untold: false,
        }
    }

    #[test]
    fn tables_are_numbered_parents_first() {
        let fk = NamedForeignKey {
            child: TableName::new("public", "a_child"),
            name: "fk".into(),
            columns: vec![0],
            parent: TableName::new("public", "z_parent"),
            parent_columns: vec![0],
            deferrable: false,
        };
        let catalog =
            Catalog::new(vec![table("a_child"), table("z_parent"), table("other")], &[fk]);
        let child = catalog.find(&TableName::new("public", "a_child")).unwrap();
        let parent = catalog.find(&TableName::new("public", "z_parent")).unwrap();
        assert!(parent < child);
        assert!(catalog.table(parent).referenced);
        assert_eq!(catalog.table(child).foreign_keys[0].parent, parent);
    }

    #[test]
    fn names_are_compared_exactly() {
        let catalog = Catalog::new(vec![table("Foo"), table("foo")], &[]);
        assert_ne!(
            catalog.find(&TableName::new("public", "Foo")),
            catalog.find(&TableName::new("public", "foo"))
        );
        assert_eq!(catalog.find(&TableName::new("public", "FOO")), None);
    }
}
