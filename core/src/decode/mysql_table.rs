//! Source tables of MySQL and MariaDB → target tables: which table and columns the cells of a row belong to.
//!
//! Each statement of a transaction says again which tables it writes to, under numbers that mean nothing after it.
//! What a table looks like is remembered by the bytes that say it.
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::binlog::event::TableMap as Described;
use super::binlog::query::Query;
use super::binlog::table_map::{BinlogFlavor, TableMap};
use super::binlog::{NoDates, RowPlan};
use super::fit::{KEYLESS, check_key, check_missing};
use super::mysql_assemble_error::MySqlAssembleError;
use super::mysql_columns::MySqlColumns;
use crate::model::catalog::{Catalog, Made, Table};
use crate::model::gtid::AnyGtid;
use crate::model::ident::TableName;
use crate::model::mutation::TableId;
use crate::model::row::Layout;
use crate::stop::SchemaDrift;

/// So many descriptions are remembered; a source with more of them has its tables looked up again.
const KNOWN_MAX: usize = 10_000;

/// Which rows are wanted, and how they are read.
#[derive(Clone, Debug)]
pub struct MySqlTables {
    /// The tables of the target.
    pub catalog: Arc<Catalog>,
    /// The database of the source; rows of others are left out.
    pub database: String,
    /// Where they go.
    pub target_schema: String,
    /// Whose binary log it is.
    pub flavor: BinlogFlavor,
    /// What becomes of dates that are none.
    pub no_dates: NoDates,
    /// What the source's catalog says of columns, for sources that do not say enough themselves.
    pub columns: Option<MySqlColumns>,
}

/// What the numbers of tables mean now.
#[derive(Debug)]
pub(super) struct Tables {
    wanted: MySqlTables,
    // By the body of the event.
    known: BTreeMap<Vec<u8>, Known>,
    current: BTreeMap<u64, Known>,
}

/// A table, if its rows are wanted, and why they cannot be applied, if so.
type Known = Arc<Option<Result<Mapped, MySqlAssembleError>>>;

/// A source table and what its rows are for the target.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Its name at the source.
    pub(super) source: TableName,
    /// The target table.
    pub(super) table: TableId,
    /// Where its cells go.
    pub(super) layout: Arc<Layout>,
    /// How they are read.
    pub(super) plan: RowPlan,
    /// Why updates and deletes do not say which row of the target they mean, if so.
    pub(super) unidentified: Option<&'static str>,
}

impl Tables {
    pub(super) const fn new(wanted: MySqlTables) -> Self {
        Self { wanted, known: BTreeMap::new(), current: BTreeMap::new() }
    }

    /// The tables of the target.
    pub(super) const fn catalog(&self) -> &Arc<Catalog> {
        &self.wanted.catalog
    }

    /// The database of the source.
    pub(super) fn database(&self) -> &str {
        &self.wanted.database
    }

    /// The target table of a source table.
    pub(super) fn target(&self, table: &str) -> Result<TableId, SchemaDrift> {
        find_target(&self.wanted.catalog, &self.wanted.target_schema, table)
    }

    /// A statement that defines data. What a table looks like from here on its next rows say, or else the catalog of
    /// the source.
    pub(super) fn pass(
        &mut self,
        gtid: AnyGtid,
        query: &Query<'_>,
    ) -> Result<(), MySqlAssembleError> {
        let MySqlTables { columns, database, catalog, target_schema, .. } = &mut self.wanted;
        if let Some(columns) = columns {
            self.known.clear();
            let is_wanted = |table: &str| find_target(catalog, target_schema, table).is_ok();
            columns.pass(gtid, query, database, is_wanted)?;
        }
        Ok(())
    }

    /// Remembers what a number means from here on.
    pub(super) fn describe(&mut self, described: &Described<'_>) -> Result<(), MySqlAssembleError> {
        let Described { table, post_header_bytes, body, .. } = *described;
        let known = match self.known.get(body) {
            Some(known) => Arc::clone(known),
            None => {
                if KNOWN_MAX <= self.known.len() {
                    self.known.clear();
                }
                let known = Arc::new(self.map(body, post_header_bytes)?);
                self.known.insert(body.into(), Arc::clone(&known));
                known
            }
        };
        self.current.insert(table, known);
        Ok(())
    }

    /// The table of this number.
    pub(super) fn usable(&self, table: u64) -> Result<Known, MySqlAssembleError> {
        self.current.get(&table).cloned().ok_or(MySqlAssembleError::UnknownTable { table })
    }

    /// The statement is over, and with it the numbers of its tables.
    pub(super) fn forget(&mut self) {
        self.current.clear();
    }

    fn map(
        &self,
        body: &[u8],
        post_header_bytes: usize,
    ) -> Result<Option<Result<Mapped, MySqlAssembleError>>, MySqlAssembleError> {
        let post_header = u8::try_from(post_header_bytes).unwrap_or(u8::MAX);
        let map = TableMap::parse(body, post_header, self.wanted.flavor)?;
        if map.schema != self.wanted.database {
            return Ok(None);
        }
        Ok(Some(self.mapped(&map)))
    }

    fn mapped(&self, map: &TableMap) -> Result<Mapped, MySqlAssembleError> {
        let MySqlTables { catalog, flavor, no_dates, columns, .. } = &self.wanted;
        let source = TableName::new(&map.schema, &map.table);
        let id = self.target(&map.table)?;
        let table = catalog.table(id);
        let known = columns.as_ref().map_or(Ok(&[][..]), |columns| columns.of(&source))?;
        let plan = RowPlan::new(map, *flavor, known, *no_dates)?;
        let indexes = find_columns(table, &plan, &source)?;
        let missing = |column: u16| !indexes.contains(&column);
        check_missing(table, missing)?;
        check_key(table, &source, missing)?;
        let columns = indexes.iter().map(|index| {
            let made = table.column(*index).made;
            (made != Made::Generated).then_some(*index)
        });
        let layout = Arc::new(Layout { table: id, columns: columns.collect() });
        let unidentified = table.key.is_empty().then_some(KEYLESS);
        Ok(Mapped { source, table: id, layout, plan, unidentified })
    }
}

fn find_target(catalog: &Catalog, schema: &str, table: &str) -> Result<TableId, SchemaDrift> {
    let target = TableName::new(schema, table);
    find_table(catalog, &target).ok_or(SchemaDrift::NoTable { table: target })
}

/// Letter for letter, or else the only one that differs in case: MySQL may keep the case of names that the target
/// folds.
fn find_table(catalog: &Catalog, name: &TableName) -> Option<TableId> {
    catalog.find(name).or_else(|| {
        let mut same = catalog.tables().filter(|(_, table)| {
            table.name.schema == name.schema && alike(&table.name.table, &name.table)
        });
        let (id, _) = same.next()?;
        same.next().is_none().then_some(id)
    })
}

/// The same for the columns of a row.
fn find_columns(
    table: &Table,
    plan: &RowPlan,
    source: &TableName,
) -> Result<Vec<u16>, MySqlAssembleError> {
    let mut indexes = Vec::new();
    let mut unexpected: Vec<&str> = Vec::new();
    for name in plan.names() {
        let alike = || {
            let mut same =
                (0_u16..).zip(&table.columns).filter(|(_, column)| alike(&column.name, name));
            let (index, _) = same.next()?;
            same.next().is_none().then_some(index)
        };
        match table.find_column(name).or_else(alike) {
            Some(index) if indexes.contains(&index) => {
                let (table, column) = (source.clone(), name.into());
                return Err(MySqlAssembleError::ColumnTwice { table, column });
            }
            Some(index) => indexes.push(index),
            None => unexpected.push(name),
        }
    }
    if unexpected.is_empty() {
        return Ok(indexes);
    }
    if unexpected.iter().all(|name| name.starts_with('#')) {
        return Err(MySqlAssembleError::Unnamed { table: source.clone() });
    }
    let (table, columns) = (table.name.clone(), unexpected.join(", "));
    Err(SchemaDrift::UnexpectedColumns { table, columns }.into())
}

fn alike(left: &str, right: &str) -> bool {
    left.chars().flat_map(char::to_lowercase).eq(right.chars().flat_map(char::to_lowercase))
}

impl Mapped {
    /// Why a change of a row that is there already cannot be applied, if so.
    pub(super) fn check_identified(&self, table: &Table) -> Result<(), SchemaDrift> {
        match self.unidentified {
            None => Ok(()),
            Some(reason) => {
                Err(SchemaDrift::NoKey { table: table.name.clone(), reason: reason.into() })
            }
        }
    }
}
