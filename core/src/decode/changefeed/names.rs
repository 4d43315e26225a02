//! How a kind of target names things, and which of its tables a topic means.
use alloc::string::String;
use alloc::vec::Vec;

use crate::model::catalog::{Catalog, Table};
use crate::model::ident::{TableName, parse_parts};
use crate::model::mutation::TableId;

/// What kind of database the target is, as far as names and values in a request depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// PostgreSQL.
    Postgres,
    /// CockroachDB.
    Cockroach,
    /// MySQL and MariaDB.
    MySql,
    /// Oracle.
    Oracle,
}

impl TargetKind {
    /// How many segments of a path name the target schema.
    #[must_use]
    pub const fn schema_parts(self) -> usize {
        match self {
            Self::Postgres | Self::Cockroach => 2,
            Self::MySql | Self::Oracle => 1,
        }
    }

    /// Whether a name of the source may differ from that of the target in the case of its letters.
    const fn folds(self) -> bool {
        match self {
            Self::Postgres | Self::Cockroach => false,
            Self::MySql | Self::Oracle => true,
        }
    }

    /// Whether timestamps before the year 1 are written with BC.
    pub(super) const fn writes_bc(self) -> bool {
        match self {
            Self::Postgres => true,
            Self::Cockroach | Self::MySql | Self::Oracle => false,
        }
    }

    /// The column of this name. Letter for letter, or else the only one that differs in case, where the
    /// product does not tell such names apart.
    pub(super) fn find_column(self, table: &Table, name: &str) -> Option<u16> {
        let exact = table.find_column(name);
        if exact.is_some() || !self.folds() {
            return exact;
        }
        let names = (0_u16..).zip(&table.columns);
        only(names.filter(|(_, column)| same(&column.name, name)).map(|(index, _)| index))
    }

    /// The table of this name.
    pub(super) fn find_table(self, catalog: &Catalog, schema: &str, name: &str) -> Option<TableId> {
        let exact = catalog.find(&TableName::new(schema, name));
        if exact.is_some() || !self.folds() {
            return exact;
        }
        let tables = catalog.tables().filter(|(_, table)| table.name.schema == schema);
        only(tables.filter(|(_, table)| same(&table.name.table, name)).map(|(id, _)| id))
    }

    /// The table that a topic means, and the parts of its name at the source.
    ///
    /// A topic is the bare name, even if that has dots in it, or with `full_table_name` all three parts
    /// with quotes where needed; of these only the last one counts. Two parts are never sent, and are
    /// nobody's table: so rows of one family of columns, whose topic is `table.family`, are refused and
    /// not taken for whole ones.
    pub(super) fn find_topic(
        self,
        catalog: &Catalog,
        schema: &str,
        topic: &str,
    ) -> Option<(TableId, Vec<String>)> {
        if let Some(id) = self.find_table(catalog, schema, topic) {
            return Some((id, alloc::vec![topic.into()]));
        }
        let parts = parse_parts(topic).ok()?;
        let [_, _, name] = parts.as_slice() else { return None };
        let id = self.find_table(catalog, schema, name)?;
        Some((id, parts))
    }
}

fn same(left: &str, right: &str) -> bool {
    left.chars().flat_map(char::to_lowercase).eq(right.chars().flat_map(char::to_lowercase))
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next();
    if found.next().is_some() { None } else { first }
}
