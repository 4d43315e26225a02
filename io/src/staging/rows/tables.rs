//! The tables of staged rows, and what they are called in the database and in the catalog of a run.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::dialect::Product;
use replicator_core::model::catalog::{Catalog, Table};
use replicator_core::model::ident::{Quoted, TableName};
use replicator_core::model::mutation::TableId;
use replicator_core::model::row::Layout;
use replicator_core::model::time::Hlc;
use replicator_core::staged::{LayoutNames, StoredLayout, StoredTable};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::super::schema::StagingName;
use super::names::choices;
use super::{Unread, time_of};
use crate::pg::sessions::{Ask, all};

/// So many layouts of a table are remembered for writing. One more costs a look at the database.
const LAYOUTS_MAX: usize = 64;

/// Names of tables of which there is one for all target tables.
#[derive(Debug)]
pub(super) struct Registers {
    pub(super) tables: String,
    pub(super) layouts: String,
    pub(super) newest: String,
}

impl Registers {
    pub(super) fn of(name: &StagingName) -> Self {
        Self {
            tables: name.table("replicator_staging_tables"),
            layouts: name.table("replicator_layouts"),
            newest: name.table("replicator_newest"),
        }
    }
}

/// The staged rows of one target table.
#[derive(Debug)]
pub(super) struct RowTable {
    pub(super) number: StoredTable,
    pub(super) target: TableName,
    /// In the catalog of the run; `None` if the target has no such table any more.
    pub(super) id: Option<TableId>,
    /// Its staging table, qualified and quoted.
    pub(super) sql: String,
    marks: Mutex<Marks>,
    layouts: Mutex<Layouts>,
}

/// What is known of the times of staged rows. Only one run writes, so it knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// There are no rows after this time; `None`: there are none at all.
    pub(super) newest: Option<Hlc>,
    /// All rows at or before this time are gone.
    pub(super) retired: Hlc,
}

#[derive(Debug, Default)]
struct Layouts {
    // Those that were used last.
    written: Vec<(Arc<Layout>, StoredLayout)>,
    names: BTreeMap<StoredLayout, LayoutNames>,
    read: BTreeMap<StoredLayout, Arc<Layout>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RowTable {
    pub(super) fn marks(&self) -> Marks {
        *lock(&self.marks)
    }

    /// Rows of these times are about to be staged.
    pub(super) fn will_stage(&self, oldest: Hlc, newest: Hlc) {
        let mut marks = lock(&self.marks);
        marks.newest = marks.newest.max(Some(newest));
        if oldest <= marks.retired {
            marks.retired = Hlc::default();
        }
    }

    pub(super) fn retired(&self, through: Hlc) {
        let mut marks = lock(&self.marks);
        marks.retired = through.max(marks.retired);
    }

    /// The number of a layout that rows are written in, if it is known.
    pub(super) fn number_of(&self, layout: &Arc<Layout>) -> Option<StoredLayout> {
        let layouts = lock(&self.layouts);
        let same = |(other, _): &&(Arc<Layout>, StoredLayout)| {
            Arc::ptr_eq(other, layout) || other == layout
        };
        layouts.written.iter().find(same).map(|(_, number)| *number)
    }

    /// Looks the number of a layout up, and gives it one if it has none.
    pub(super) async fn find_layout(
        &self,
        client: &Client,
        registers: &Registers,
        layout: &Arc<Layout>,
        names: &[u8],
    ) -> Result<(), Error> {
        let Registers { layouts, .. } = registers;
        // `$1` = staging table, `$2` = names.
        let find =
            format!("SELECT number FROM {layouts} WHERE staging_table = $1 AND names = $2 LIMIT 1");
        let add = format!(
            "INSERT INTO {layouts} (staging_table, number, names) \
             SELECT $1, coalesce(max(number), 0) + 1, $2 FROM {layouts} WHERE staging_table = $1 \
             ON CONFLICT DO NOTHING"
        );
        let table = i64::from(self.number.0);
        loop {
            let params = [(&table as _, Type::INT8), (&names as _, Type::BYTEA)];
            if let Some(row) = client.query_typed_opt(&find, &params).await? {
                let number = u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX);
                let mut layouts = lock(&self.layouts);
                if layouts.written.len() == LAYOUTS_MAX {
                    layouts.written.clear();
                }
                layouts.written.push((Arc::clone(layout), StoredLayout(number)));
                return Ok(());
            }
            client.execute_typed(&add, &params).await?;
        }
    }

    /// Whether the names behind a number are known.
    pub(super) fn knows(&self, stored: StoredLayout) -> bool {
        lock(&self.layouts).names.contains_key(&stored)
    }

    /// The layout behind a number in the catalog of the run, in which the table is `id`.
    pub(super) fn layout(
        &self,
        stored: StoredLayout,
        id: TableId,
        target: &Table,
    ) -> Result<Arc<Layout>, Unread> {
        let mut layouts = lock(&self.layouts);
        if let Some(layout) = layouts.read.get(&stored) {
            return Ok(Arc::clone(layout));
        }
        let names = layouts.names.get(&stored).ok_or(Unread::NoLayout)?;
        let layout = Arc::new(names.resolve(id, target)?);
        layouts.read.insert(stored, Arc::clone(&layout));
        Ok(layout)
    }

    /// Loads the names of all layouts.
    pub(super) async fn load_layouts(
        &self,
        client: &Client,
        registers: &Registers,
    ) -> Result<(), Error> {
        // `$1` = staging table.
        let sql =
            format!("SELECT number, names FROM {} WHERE staging_table = $1", registers.layouts);
        let table = i64::from(self.number.0);
        for row in client.query_typed(&sql, &[(&table, Type::INT8)]).await? {
            let number = u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX);
            // What cannot be read is missing for those rows that need it.
            if let Ok(names) = LayoutNames::decode(row.get(1)) {
                lock(&self.layouts).names.insert(StoredLayout(number), names);
            }
        }
        Ok(())
    }
}

/// Whose tables they are.
#[derive(Debug)]
pub(super) struct Owner<'a> {
    pub(super) product: Product,
    pub(super) name: &'a StagingName,
    pub(super) registers: &'a Registers,
    pub(super) group: &'a str,
    pub(super) database: &'a str,
    pub(super) schema: &'a str,
    pub(super) catalog: &'a Catalog,
    pub(super) reader_index: bool,
}

/// A line of the register.
#[derive(Debug)]
struct Claim {
    number: i64,
    target: String,
    staging: String,
    ready: bool,
}

impl Owner<'_> {
    /// Whether [`load`](Self::load) has tables of the older tool to take over, or such a takeover to finish.
    pub(super) async fn takes_over(&self, client: &Client) -> Result<bool, Error> {
        let claims = self.claims(client).await?;
        let there = self.existing(client).await?;
        let unfinished = |claim: &Claim| !claim.ready && there.contains(&claim.staging);
        let unknown = |target: &TableName| {
            let documented = choices(self.product, self.database, target).next();
            documented.is_some_and(|name| there.contains(&name))
                && !claims.iter().any(|claim| claim.target == target.table)
        };
        Ok(claims.iter().any(unfinished)
            || self.catalog.tables().any(|(_, table)| unknown(&table.name)))
    }

    /// All tables of the group that hold rows or may, also those of the older tool.
    pub(super) async fn load(&self, client: &Client) -> Result<Vec<RowTable>, Error> {
        let mut claims = self.claims(client).await?;
        let there = self.existing(client).await?;
        // Two target tables may be staged in one table of the older tool. That is whose name is the same.
        let mut tables: Vec<&TableName> =
            self.catalog.tables().map(|(_, table)| &table.name).collect();
        tables.sort_by_key(|name| name.table.to_lowercase() != name.table);
        for target in tables {
            let documented = choices(self.product, self.database, target).next();
            let known = claims.iter().any(|claim| claim.target == target.table);
            if !known && documented.is_some_and(|name| there.contains(&name)) {
                claims.push(self.claim(client, target).await?);
            }
        }
        let mut loaded = Vec::with_capacity(claims.len());
        for claim in claims {
            self.make_ready(client, &claim).await?;
            loaded.push(self.table(claim));
        }
        self.look_at_times(client, &loaded).await?;
        Ok(loaded)
    }

    /// The table for the rows of a target table; made if it is not there.
    pub(super) async fn open(
        &self,
        client: &Client,
        target: &TableName,
    ) -> Result<RowTable, Error> {
        let claim = self.claim(client, target).await?;
        self.make_ready(client, &claim).await?;
        let tables = [self.table(claim)];
        self.look_at_times(client, &tables).await?;
        let [table] = tables;
        Ok(table)
    }

    async fn claims(&self, client: &Client) -> Result<Vec<Claim>, Error> {
        // `$1` = group.
        let sql = format!(
            "SELECT number, target_table, staging_table, ready FROM {} WHERE stream = $1 \
             ORDER BY number",
            self.registers.tables
        );
        let rows = client.query_typed(&sql, &[(&self.group, Type::TEXT)]).await?;
        let claim = |row: &tokio_postgres::Row| {
            let (number, target, staging, ready) = (row.get(0), row.get(1), row.get(2), row.get(3));
            Claim { number, target, staging, ready }
        };
        Ok(rows.iter().map(claim).collect())
    }

    /// Finds a name for the staging table that no other target table has, and writes it down.
    async fn claim(&self, client: &Client, target: &TableName) -> Result<Claim, Error> {
        let tables = &self.registers.tables;
        // `$1` = group, `$2` = target table, `$3` = staging table.
        let add = format!(
            "INSERT INTO {tables} (number, stream, target_table, staging_table) \
             SELECT coalesce(max(number), 0) + 1, $1, $2, $3 FROM {tables} ON CONFLICT DO NOTHING"
        );
        let owned = format!("SELECT 1 FROM {tables} WHERE staging_table = $1");
        for name in choices(self.product, self.database, target) {
            if !self.fits(client, &name).await? {
                continue;
            }
            loop {
                let mut claims = self.claims(client).await?;
                if let Some(at) = claims.iter().position(|claim| claim.target == target.table) {
                    return Ok(claims.swap_remove(at));
                }
                let params = [
                    (&self.group as _, Type::TEXT),
                    (&target.table as _, Type::TEXT),
                    (&name as _, Type::TEXT),
                ];
                let added = client.execute_typed(&add, &params).await?;
                let taken = [(&name as _, Type::TEXT)];
                // Otherwise somebody had the number.
                if added == 0 && !client.query_typed(&owned, &taken).await?.is_empty() {
                    break;
                }
            }
        }
        unreachable!("there is always another name")
    }

    /// Whether there is no table of this name, or one of staged rows.
    async fn fits(&self, client: &Client, name: &str) -> Result<bool, Error> {
        // `$1` = schema, `$2` = name.
        let sql = format!(
            "SELECT count(*) AS all_columns, \
                    count(CASE WHEN a.attname IN ('nanos', 'logical', 'key', 'mut') THEN 1 END) \
                    AS our_columns \
               FROM {catalog}pg_catalog.pg_class c \
               JOIN {catalog}pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               JOIN {catalog}pg_catalog.pg_attribute a ON a.attrelid = c.oid \
              WHERE n.nspname = $1 AND c.relname = $2",
            catalog = self.name.catalog(),
        );
        let params = [(&self.name.schema as _, Type::TEXT), (&name as _, Type::TEXT)];
        let row = client.query_typed_one(&sql, &params).await?;
        let (columns, ours): (i64, i64) = (row.get(0), row.get(1));
        Ok(columns == 0 || ours == 4)
    }

    async fn existing(&self, client: &Client) -> Result<Vec<String>, Error> {
        super::super::schema::tables(client, self.name).await
    }

    fn table(&self, claim: Claim) -> RowTable {
        let Claim { number, target, staging, ready: _ } = claim;
        let target = TableName::new(self.schema, &target);
        let id = self.catalog.find(&target);
        RowTable {
            number: StoredTable(u32::try_from(number).unwrap_or(u32::MAX)),
            target,
            id,
            sql: self.name.table(&staging),
            marks: Mutex::default(),
            layouts: Mutex::default(),
        }
    }

    async fn look_at_times(&self, client: &Client, tables: &[RowTable]) -> Result<(), Error> {
        let last = |table: &RowTable| Ask {
            sql: format!(
                "SELECT nanos, logical FROM {} ORDER BY nanos DESC, logical DESC, key DESC LIMIT 1",
                table.sql
            ),
            params: Vec::new(),
        };
        let asks: Vec<Ask<'_>> = tables.iter().map(last).collect();
        for (table, rows) in tables.iter().zip(all(client, &asks).await?) {
            if let Some(row) = rows.first() {
                table.will_stage(Hlc::default(), time_of(row.get(0), row.get(1)));
            }
        }
        Ok(())
    }

    /// Makes the staging table, or takes one of the older tool over.
    async fn make_ready(&self, client: &Client, claim: &Claim) -> Result<(), Error> {
        if claim.ready {
            return Ok(());
        }
        let there = self.existing(client).await?.contains(&claim.staging);
        let table = self.name.table(&claim.staging);
        if there {
            for column in ["before BYTEA", "applied_at TIMESTAMPTZ", "deletion BOOL DEFAULT false"]
            {
                let sql = format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}");
                client.batch_execute(&sql).await?;
            }
        } else {
            client.batch_execute(&self.create_table(&table)).await?;
        }
        if self.reader_index {
            // PostgreSQL has one space of names for tables and indexes; nobody else has this one.
            let index = format!("replicator_unapplied_{}", claim.number);
            let sql = format!(
                "CREATE INDEX IF NOT EXISTS {} ON {table} (nanos, logical, key) WHERE NOT applied",
                Quoted(&index)
            );
            client.batch_execute(&sql).await?;
        }
        // `$1` = staging table.
        let newest = format!(
            "INSERT INTO {newest} AS n (staging_table, key, nanos, logical) \
             SELECT $1, s.key, s.nanos, s.logical FROM \
                    (SELECT DISTINCT ON (key) key, nanos, logical FROM {table} \
                      ORDER BY key, nanos DESC, logical DESC) AS s \
             ON CONFLICT (staging_table, key) DO UPDATE \
                SET nanos = excluded.nanos, logical = excluded.logical \
              WHERE (n.nanos, n.logical) < (excluded.nanos, excluded.logical)",
            newest = self.registers.newest,
        );
        let ready = format!("UPDATE {} SET ready = true WHERE number = $1", self.registers.tables);
        let number = [(&claim.number as _, Type::INT8)];
        if there {
            client.execute_typed(&newest, &number).await?;
        }
        client.execute_typed(&ready, &number).await?;
        Ok(())
    }

    /// The documented columns. Those that only repeat others are left out: not every server can make them.
    fn create_table(&self, table: &str) -> String {
        let (collation, families) = match self.product {
            Product::Postgres => (" COLLATE \"C\"", ""),
            Product::Cockroach => (
                "",
                ", FAMILY cold (nanos, logical, key, mut, before, deletion), \
                 FAMILY hot (applied, applied_at)",
            ),
        };
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (nanos INT8 NOT NULL, logical INT8 NOT NULL, \
             key TEXT{collation} NOT NULL, mut BYTEA NOT NULL, before BYTEA, \
             applied BOOL NOT NULL DEFAULT false, applied_at TIMESTAMPTZ, \
             deletion BOOL DEFAULT false, PRIMARY KEY (nanos, logical, key){families})"
        )
    }
}
