//! What the pretend server knows of a table.
use replicator_core::model::catalog::{Catalog, Table};
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;

use super::error::SqlError;
use super::value::{Base, Type, Value};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDef {
    /// Its name.
    pub name: TableName,
    /// Its columns.
    pub columns: Vec<ColumnDef>,
    /// Its unique indexes. The first one may be the primary key.
    pub uniques: Vec<UniqueDef>,
    /// Its references to other tables.
    pub foreign_keys: Vec<ForeignKeyDef>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// Its type.
    pub of: Type,
    /// Refuses NULL.
    pub not_null: bool,
    /// What a row gets that does not name it.
    pub default: Option<Preset>,
}

/// What a row gets for a column that it does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `now()`.
    Now,
    /// `gen_random_uuid()`, or what stands for it.
    Uuid,
    /// `true` or `false`.
    Bool(bool),
}

/// A unique index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueDef {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<usize>,
    /// Whether it is the primary key.
    pub primary: bool,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKeyDef {
    /// Its name.
    pub name: String,
    /// The referring columns.
    pub columns: Vec<usize>,
    /// The table referred to.
    pub parent: TableName,
    /// The columns referred to.
    pub parent_columns: Vec<usize>,
    /// `DEFERRABLE INITIALLY IMMEDIATE`.
    pub deferrable: bool,
}

impl TableDef {
    /// The tables of a catalog of ours.
    pub(super) fn all_of(catalog: &Catalog) -> Vec<Self> {
        catalog.tables().map(|(_, table)| Self::of(catalog, table)).collect()
    }

    fn of(catalog: &Catalog, table: &Table) -> Self {
        let columns = table.columns.iter().map(|column| ColumnDef {
            name: column.name.clone(),
            // The one built-in type of which we may say that equality is not in the text.
            of: if column.kind == KeyKind::Loose { Base::Jsonb } else { Base::Int8 }.one(),
            not_null: !column.nullable,
            default: None,
        });
        let name = &table.name.table;
        let primary =
            UniqueDef { name: format!("{name}_pkey"), columns: places(&table.key), primary: true };
        let uniques = (1..).zip(&table.uniques).map(|(number, unique)| UniqueDef {
            name: format!("{name}_{}{number}", unique.name),
            columns: places(unique.columns.as_ref().expect("every unique index has columns")),
            primary: false,
        });
        let foreign_keys = table.foreign_keys.iter().map(|fk| ForeignKeyDef {
            name: fk.name.clone(),
            columns: places(&fk.columns),
            parent: catalog.table(fk.parent).name.clone(),
            parent_columns: places(&fk.parent_columns),
            deferrable: fk.deferrable,
        });
        Self {
            name: table.name.clone(),
            columns: columns.collect(),
            uniques: Some(primary).into_iter().chain(uniques).collect(),
            foreign_keys: foreign_keys.collect(),
        }
    }

    /// Only the primary key is left.
    pub(super) fn drop_constraints(&mut self) {
        self.uniques.retain(|unique| unique.primary);
        self.foreign_keys.clear();
    }

    /// The columns of the primary key; empty if there is none.
    pub(super) fn key(&self) -> &[usize] {
        let primary = self.uniques.iter().find(|unique| unique.primary);
        primary.map_or(&[], |unique| &unique.columns)
    }

    /// The place of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize, SqlError> {
        self.columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let table = &self.name.table;
            let message = format!("column \"{name}\" of relation \"{table}\" does not exist");
            SqlError::new("42703", message)
        })
    }
}

/// The values of a row in these columns.
pub(super) fn pick(columns: &[usize], row: &[Value]) -> Vec<Value> {
    columns.iter().map(|column| row[*column].clone()).collect()
}

fn places(columns: &[u16]) -> Vec<usize> {
    columns.iter().map(|column| usize::from(*column)).collect()
}
