//! Puts the answers of the catalog queries together, and chooses each table's key.
use std::collections::BTreeMap;

use replicator_core::dialect::Product;
use replicator_core::model::catalog::{Catalog, Column, Made, NamedForeignKey, Table, Unique};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;

use super::CatalogError;
use super::types::TypeFacts;

/// A column as the server tells it.
#[derive(Clone, Debug)]
pub(super) struct ColumnFacts {
    /// `attnum`: counts from 1, with gaps where columns were dropped.
    pub(super) position: i64,
    /// Its name.
    pub(super) name: String,
    /// Its type.
    pub(super) of_type: TypeFacts,
    /// Refuses NULL.
    pub(super) not_null: bool,
    /// Has a DEFAULT, or is computed: PostgreSQL keeps both in one place.
    pub(super) has_default: bool,
    /// GENERATED ALWAYS AS IDENTITY.
    pub(super) identity_always: bool,
    /// An identity column of either kind.
    pub(super) identity: bool,
    /// Computed from other columns.
    pub(super) generated: bool,
    /// Whether writers know of it.
    pub(super) visibility: Visibility,
}

/// Whether writers know of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visibility {
    /// It may be read and written by name.
    Visible,
    /// The key CockroachDB makes up for a table that has none. Another one in every copy of the table.
    RowId,
    /// The shard number of a hash-sharded index on CockroachDB. Follows from the other key columns.
    Shard,
}

/// One column of a unique index.
#[derive(Clone, Debug)]
pub(super) struct IndexFacts {
    /// The table.
    pub(super) table: String,
    /// The index.
    pub(super) name: String,
    /// `attnum` of the column, 0 for an expression.
    pub(super) position: i64,
    /// Belongs to the primary key.
    pub(super) primary: bool,
    /// `ON CONFLICT` can name it.
    pub(super) usable: bool,
    /// Rows clash exactly if the columns are equal.
    pub(super) plain: bool,
}

/// One pair of columns of a foreign key.
#[derive(Clone, Debug)]
pub(super) struct ForeignKeyFacts {
    /// The referring table.
    pub(super) child: String,
    /// The constraint.
    pub(super) name: String,
    /// The table referred to.
    pub(super) parent: String,
    /// `attnum` of the referring column.
    pub(super) child_position: i64,
    /// `attnum` of the column referred to.
    pub(super) parent_position: i64,
    /// Can be checked at the end of the transaction.
    pub(super) deferrable: bool,
}

/// A catalog in the making.
#[derive(Debug)]
pub(super) struct Drafts {
    schema: String,
    product: Product,
    tables: BTreeMap<String, Draft>,
    /// By child and constraint; a constraint's name is unique within its table only.
    foreign_keys: BTreeMap<(String, String), NamedForeignKey>,
}

/// A table in the making.
#[derive(Debug, Default)]
struct Draft {
    columns: Vec<Column>,
    /// Where each `attnum` is in `columns`.
    places: BTreeMap<i64, Spot>,
    indexes: BTreeMap<String, Index>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    Column(u16),
    RowId,
    Shard,
}

/// A unique index.
#[derive(Debug)]
struct Index {
    primary: bool,
    usable: bool,
    plain: bool,
    rowid: bool,
    columns: Vec<u16>,
}

impl Drafts {
    pub(super) fn new(schema: &str, product: Product) -> Self {
        let (tables, foreign_keys) = (BTreeMap::new(), BTreeMap::new());
        Self { schema: schema.to_owned(), product, tables, foreign_keys }
    }

    /// Adds a table, and one of its columns unless it has none. Columns come in the order of their
    /// positions.
    pub(super) fn add_column(
        &mut self,
        table: &str,
        facts: Option<ColumnFacts>,
    ) -> Result<(), CatalogError> {
        let draft = self.tables.entry(table.to_owned()).or_default();
        let Some(facts) = facts else { return Ok(()) };
        let spot = match facts.visibility {
            Visibility::RowId => Spot::RowId,
            Visibility::Shard => Spot::Shard,
            Visibility::Visible => {
                let index = u16::try_from(draft.columns.len())
                    .map_err(|_| CatalogError::TooWide { table: table.to_owned() })?;
                Spot::Column(index)
            }
        };
        draft.places.insert(facts.position, spot);
        if let Spot::Column(_) = spot {
            draft.columns.push(column(self.product, facts));
        }
        Ok(())
    }

    /// Adds one column of an index. Columns come in the order of the index.
    pub(super) fn add_index_column(&mut self, facts: &IndexFacts) -> Result<(), CatalogError> {
        let changed = || CatalogError::Changed { table: facts.table.clone() };
        let draft = self.tables.get_mut(&facts.table).ok_or_else(changed)?;
        let spot = match facts.position {
            0 => None,
            position => Some(*draft.places.get(&position).ok_or_else(changed)?),
        };
        let index = draft.indexes.entry(facts.name.clone()).or_insert_with(|| Index {
            primary: facts.primary,
            usable: facts.usable,
            plain: true,
            rowid: false,
            columns: Vec::new(),
        });
        index.plain &= facts.plain && spot.is_some();
        match spot {
            Some(Spot::Column(column)) => index.columns.push(column),
            Some(Spot::RowId) => index.rowid = true,
            Some(Spot::Shard) | None => (),
        }
        Ok(())
    }

    /// Adds one pair of columns of a foreign key. Pairs come in the order of the constraint.
    pub(super) fn add_foreign_key_column(
        &mut self,
        facts: &ForeignKeyFacts,
    ) -> Result<(), CatalogError> {
        let child_column = self.column_at(&facts.child, facts.child_position)?;
        let parent_column = self.column_at(&facts.parent, facts.parent_position)?;
        let name = (facts.child.clone(), facts.name.clone());
        let fk = self.foreign_keys.entry(name).or_insert_with(|| NamedForeignKey {
            child: TableName::new(&self.schema, &facts.child),
            name: facts.name.clone(),
            columns: Vec::new(),
            parent: TableName::new(&self.schema, &facts.parent),
            parent_columns: Vec::new(),
            deferrable: facts.deferrable,
        });
        fk.columns.push(child_column);
        fk.parent_columns.push(parent_column);
        Ok(())
    }

    /// The finished catalog.
    pub(super) fn finish(self) -> Catalog {
        let foreign_keys: Vec<NamedForeignKey> = self.foreign_keys.into_values().collect();
        let schema = &self.schema;
        let tables = self.tables.into_iter();
        let tables = tables.map(|(name, draft)| draft.finish(TableName::new(schema, &name)));
        Catalog::new(tables.collect(), &foreign_keys)
    }

    fn column_at(&self, table: &str, position: i64) -> Result<u16, CatalogError> {
        match self.tables.get(table).and_then(|draft| draft.places.get(&position)) {
            Some(Spot::Column(column)) => Ok(*column),
            // Nothing can refer to a column that the server hides.
            Some(Spot::RowId | Spot::Shard) | None => {
                Err(CatalogError::Changed { table: table.to_owned() })
            }
        }
    }
}

fn column(product: Product, facts: ColumnFacts) -> Column {
    let made = if facts.generated {
        Made::Generated
    } else if facts.identity_always {
        Made::IdentityAlways
    } else {
        Made::Written
    };
    Column {
        cast: facts.of_type.cast(product),
        kind: facts.of_type.key_kind(),
        wire: facts.of_type.wire(),
        name: facts.name,
        nullable: !facts.not_null,
        made,
        has_default: facts.has_default || facts.identity || facts.generated,
    }
}

impl Draft {
    fn finish(self, name: TableName) -> Table {
        let key_name = self.choose_key();
        let key = key_name.as_ref().and_then(|name| self.indexes.get(name));
        let key: Vec<u16> = key.map(|index| index.columns.clone()).unwrap_or_default();
        let mut uniques = Vec::new();
        for (name, index) in self.indexes {
            let implied = index.plain
                && !key.is_empty()
                && key.iter().all(|column| index.columns.contains(column));
            // Made-up row ids never clash, and where the key is unique so is whatever contains it.
            if Some(&name) == key_name.as_ref() || index.rowid || implied {
                continue;
            }
            uniques.push(Unique { name, columns: index.plain.then_some(index.columns) });
        }
        Table {
            name,
            columns: self.columns,
            key,
            uniques,
            foreign_keys: Vec::new(),
            place: Place::default(),
            referenced: false,
            untold: false,
        }
    }

    /// The primary key if it can serve, else the unique index that serves best.
    fn choose_key(&self) -> Option<String> {
        let candidates = self.indexes.iter().filter(|(_, index)| {
            index.usable
                && index.plain
                && !index.rowid
                && !index.columns.is_empty()
                && self.of(index).all(|column| !column.nullable)
        });
        let best = candidates.min_by_key(|(name, index)| {
            // A key that cannot be compared as bytes keeps a table's changes one after the other.
            let loose = self.of(index).any(|column| column.kind == KeyKind::Loose);
            (!index.primary, loose, index.columns.len(), *name)
        });
        best.map(|(name, _)| name.clone())
    }

    fn of<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = &'a Column> {
        index.columns.iter().filter_map(|column| self.columns.get(usize::from(*column)))
    }
}

#[cfg(test)]
mod tests;
