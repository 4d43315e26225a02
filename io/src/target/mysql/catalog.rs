//! Reads tables, columns, keys and foreign keys of one schema of MySQL or MariaDB.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use replicator_core::dialect::mysql::Flavor;
use replicator_core::model::catalog::{
    Catalog, Column, Made, NamedForeignKey, Table, Unique, Wire,
};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;
use replicator_core::model::mysql::MySqlType;
use thiserror::Error;
use tracing::warn;

use super::sql;
use crate::mysql::session::{MySqlError, MySqlSession};

/// Longest wait for all answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Storage engines that undo what a transaction did.
const ENGINES: [&str; 5] = ["InnoDB", "ndbcluster", "ROCKSDB", "TokuDB", "COLUMNSTORE"];
/// The key that MySQL makes up for a table without one (`sql_generate_invisible_primary_key`).
const MADE_UP_KEY: &str = "my_row_id";

/// The catalog could not be read.
#[derive(Debug, Error)]
pub enum MySqlCatalogError {
    /// The server refused a question.
    #[error("could not read the {what} of schema \"{schema}\"")]
    Query {
        /// What was asked for.
        what: &'static str,
        /// Of which schema.
        schema: String,
        /// Why.
        #[source]
        source: MySqlError,
    },
    /// The server did not answer in time.
    #[error("could not read the catalog of schema \"{schema}\" within {} s", limit.as_secs())]
    TimedOut {
        /// Of which schema.
        schema: String,
        /// How long we waited.
        limit: Duration,
    },
    /// A table has more columns than we count.
    #[error("table \"{table}\" has more than 65535 columns")]
    TooWide {
        /// Which table.
        table: String,
    },
}

type Rows = Vec<Vec<Option<String>>>;

/// Reads the tables of `schema`. A schema that does not exist has none. Not cancel safe.
///
/// # Errors
///
/// See [`MySqlCatalogError`]. Nothing was changed; the same call may work later.
pub async fn load(session: &mut MySqlSession, schema: &str) -> Result<Catalog, MySqlCatalogError> {
    let flavor = session.server().flavor;
    let asking = async {
        let columns = ask(session, schema, "columns", &sql::columns(flavor, schema)).await?;
        let indexes = ask(session, schema, "indexes", &sql::indexes(schema)).await?;
        let foreign_keys = ask(session, schema, "foreign keys", &sql::foreign_keys(schema)).await?;
        let checks = match flavor {
            Flavor::MariaDb => ask(session, schema, "checks", &sql::checks(schema)).await?,
            Flavor::MySql | Flavor::MySql57 => Vec::new(),
        };
        Ok((columns, indexes, foreign_keys, checks))
    };
    let late = |_| MySqlCatalogError::TimedOut { schema: schema.to_owned(), limit: ANSWER_LIMIT };
    let answers = tokio::time::timeout(ANSWER_LIMIT, asking).await.map_err(late)?;
    let (columns, indexes, foreign_keys, checks) = answers?;
    let mut drafts = Drafts::new(schema, &checks);
    drafts.add_columns(&columns)?;
    drafts.add_indexes(&indexes);
    drafts.add_foreign_keys(&foreign_keys);
    Ok(drafts.finish())
}

async fn ask(
    session: &mut MySqlSession,
    schema: &str,
    what: &'static str,
    sql: &str,
) -> Result<Rows, MySqlCatalogError> {
    let failed = |source| MySqlCatalogError::Query { what, schema: schema.to_owned(), source };
    session.query(sql).await.map_err(failed)
}

/// A field of an answer; NULL is empty.
fn field(row: &[Option<String>], index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or_default()
}

/// A catalog in the making.
#[derive(Debug)]
struct Drafts<'a> {
    schema: &'a str,
    // Columns of documents on MariaDB, by table.
    documents: BTreeSet<(String, String)>,
    tables: BTreeMap<String, Draft>,
    foreign_keys: Vec<NamedForeignKey>,
}

/// A table in the making.
#[derive(Debug, Default)]
struct Draft {
    columns: Vec<Column>,
    indexes: BTreeMap<String, Index>,
    // It has a key that the server made up, and that writers do not know of.
    keyless: bool,
}

/// A unique index.
#[derive(Debug)]
struct Index {
    // Rows clash exactly if the columns are equal.
    plain: bool,
    columns: Vec<u16>,
}

impl<'a> Drafts<'a> {
    fn new(schema: &'a str, checks: &[Vec<Option<String>>]) -> Self {
        let documents = checks.iter().filter_map(|check| {
            let column = field(check, 1).strip_prefix("json_valid(`")?.strip_suffix("`)")?;
            Some((field(check, 0).to_owned(), column.to_owned()))
        });
        let documents = documents.collect();
        Self { schema, documents, tables: BTreeMap::new(), foreign_keys: Vec::new() }
    }

    fn add_columns(&mut self, rows: &[Vec<Option<String>>]) -> Result<(), MySqlCatalogError> {
        for row in rows {
            let (table, engine, name) = (field(row, 0), field(row, 1), field(row, 2));
            if !self.tables.contains_key(table) && !ENGINES.contains(&engine) {
                warn!(
                    table,
                    engine, "the table's engine knows no transactions; what fails stays half done"
                );
            }
            let draft = self.tables.entry(table.to_owned()).or_default();
            let extra = field(row, 6);
            if name == MADE_UP_KEY && extra.contains("INVISIBLE") {
                draft.keyless = true;
                continue;
            }
            let document = self.documents.contains(&(table.to_owned(), name.to_owned()));
            let mut cast = if document { "json" } else { field(row, 3) }.to_owned();
            let kind = MySqlType::of(&cast).key_kind();
            let srid = field(row, 7);
            if matches!(MySqlType::of(&cast), MySqlType::Geometry(_)) && !srid.is_empty() {
                cast.push_str(" srid ");
                cast.push_str(srid);
            }
            let generated = extra.contains(" GENERATED");
            draft.columns.push(Column {
                name: name.to_owned(),
                cast,
                kind,
                wire: Wire::Text,
                nullable: field(row, 4) == "YES",
                made: if generated { Made::Generated } else { Made::Written },
                has_default: field(row, 5) == "1" || generated || extra.contains("auto_increment"),
            });
            if u16::try_from(draft.columns.len()).is_err() {
                return Err(MySqlCatalogError::TooWide { table: table.to_owned() });
            }
        }
        Ok(())
    }

    fn add_indexes(&mut self, rows: &[Vec<Option<String>>]) {
        for row in rows {
            // A view, or a table that has come since.
            let Some(draft) = self.tables.get_mut(field(row, 0)) else { continue };
            let (name, part) = (field(row, 1), field(row, 3));
            if draft.keyless && name == "PRIMARY" {
                continue;
            }
            let column = draft.find(field(row, 2));
            let fresh = || Index { plain: true, columns: Vec::new() };
            let index = draft.indexes.entry(name.to_owned()).or_insert_with(fresh);
            // The beginning of a column, or an expression.
            index.plain &= part.is_empty() && column.is_some();
            index.columns.extend(column);
        }
    }

    fn add_foreign_keys(&mut self, rows: &[Vec<Option<String>>]) {
        for row in rows {
            let (child, name) = (field(row, 0), field(row, 1));
            let Some(parent) = self.find_table(field(row, 3)) else { continue };
            let column = self.tables.get(child).and_then(|draft| draft.find(field(row, 2)));
            let parent_draft = self.tables.get(&parent);
            let parent_column = parent_draft.and_then(|draft| draft.find(field(row, 4)));
            let (Some(column), Some(parent_column)) = (column, parent_column) else { continue };
            let child = TableName::new(self.schema, child);
            let parent = TableName::new(self.schema, &parent);
            match self.foreign_keys.last_mut() {
                Some(last) if last.child == child && last.name == name => {
                    last.columns.push(column);
                    last.parent_columns.push(parent_column);
                }
                Some(_) | None => self.foreign_keys.push(NamedForeignKey {
                    child,
                    name: name.to_owned(),
                    columns: vec![column],
                    parent,
                    parent_columns: vec![parent_column],
                    deferrable: false,
                }),
            }
        }
    }

    /// The table of this name. Where names of tables are folded, a foreign key may tell another case.
    fn find_table(&self, name: &str) -> Option<String> {
        if self.tables.contains_key(name) {
            return Some(name.to_owned());
        }
        self.tables.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned()
    }

    fn finish(self) -> Catalog {
        let schema = self.schema;
        let tables = self.tables.into_iter();
        let tables = tables.map(|(name, draft)| draft.finish(TableName::new(schema, &name)));
        Catalog::new(tables.collect(), &self.foreign_keys)
    }
}

impl Draft {
    /// Names of columns differ in more than case.
    fn find(&self, name: &str) -> Option<u16> {
        let index =
            self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))?;
        u16::try_from(index).ok()
    }

    fn finish(self, name: TableName) -> Table {
        let key_name = self.choose_key();
        let key = key_name.as_ref().and_then(|name| self.indexes.get(name));
        let key: Vec<u16> = key.map(|index| index.columns.clone()).unwrap_or_default();
        let mut uniques = Vec::new();
        for (name, index) in self.indexes {
            let implied = index.plain
                && !key.is_empty()
                && key.iter().all(|column| index.columns.contains(column));
            if Some(&name) != key_name.as_ref() && !implied {
                uniques.push(Unique { name, columns: index.plain.then_some(index.columns) });
            }
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
        let of = |index: &'_ Index| -> Vec<&Column> {
            index.columns.iter().filter_map(|c| self.columns.get(usize::from(*c))).collect()
        };
        let candidates = self
            .indexes
            .iter()
            .filter(|(_, index)| index.plain && of(index).iter().all(|column| !column.nullable));
        let best = candidates.min_by_key(|(name, index)| {
            let loose = of(index).iter().any(|column| column.kind == KeyKind::Loose);
            (*name != "PRIMARY", loose, index.columns.len(), *name)
        });
        best.map(|(name, _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::catalog::{Made, Table};
    use replicator_core::model::ident::TableName;
    use replicator_core::model::key::KeyKind;

    use super::Drafts;

    fn rows(texts: &[&str]) -> Vec<Vec<Option<String>>> {
        let field = |text: &str| (text != "NULL").then(|| text.to_owned());
        texts.iter().map(|text| text.split('|').map(field).collect()).collect()
    }

    fn table(columns: &[&str], indexes: &[&str], checks: &[&str]) -> Table {
        let mut drafts = Drafts::new("app", &rows(checks));
        drafts.add_columns(&rows(columns)).unwrap();
        drafts.add_indexes(&rows(indexes));
        let catalog = drafts.finish();
        let id = catalog.find(&TableName::new("app", "t")).unwrap();
        catalog.table(id).clone()
    }

    #[test]
    fn columns_are_told_by_what_writers_may_do_with_them() {
        let table = table(
            &[
                "t|InnoDB|id|bigint unsigned|NO|0|auto_increment|NULL",
                "t|InnoDB|doc|longtext|YES|1||NULL",
                "t|InnoDB|sum|int|YES|0|STORED GENERATED|NULL",
                "t|InnoDB|at|timestamp|NO|1|DEFAULT_GENERATED|NULL",
                "t|InnoDB|place|point|NO|0||4326",
            ],
            &["t|PRIMARY|ID|NULL"],
            &["t|json_valid(`doc`)", "t|`id` > 0"],
        );
        let made: Vec<Made> = table.columns.iter().map(|column| column.made).collect();
        assert_eq!(made[2], Made::Generated);
        assert!(made.iter().enumerate().all(|(i, made)| i == 2 || *made == Made::Written));
        let casts: Vec<&str> = table.columns.iter().map(|column| column.cast.as_str()).collect();
        assert_eq!(casts, ["bigint unsigned", "json", "int", "timestamp", "point srid 4326"]);
        let defaults: Vec<bool> = table.columns.iter().map(|column| column.has_default).collect();
        assert_eq!(defaults, [true, true, true, true, false]);
        assert_eq!((table.key.as_slice(), table.columns[0].kind), (&[0][..], KeyKind::Int));
    }

    #[test]
    fn what_cannot_tell_rows_apart_is_no_key() {
        let columns = ["t|InnoDB|a|varchar(20)|NO|0||NULL", "t|InnoDB|b|int|YES|0||NULL"];
        let prefix = table(&columns, &["t|PRIMARY|a|3"], &[]);
        assert!(prefix.key.is_empty());
        assert_eq!((prefix.uniques.len(), &prefix.uniques[0].columns), (1, &None));
        let nullable = table(&columns, &["t|u|b|NULL", "t|v|NULL|NULL"], &[]);
        assert!(nullable.key.is_empty());
        assert_eq!(nullable.uniques.len(), 2);
        let unique = table(&columns, &["t|w|a|NULL", "t|z|a|NULL", "t|z|b|NULL"], &[]);
        assert_eq!((unique.key.as_slice(), unique.uniques.len()), (&[0][..], 0));
    }

    #[test]
    fn a_key_that_the_server_made_up_is_none() {
        let table = table(
            &[
                "t|InnoDB|my_row_id|bigint unsigned|NO|0|auto_increment INVISIBLE|NULL",
                "t|InnoDB|a|int|YES|0||NULL",
            ],
            &["t|PRIMARY|my_row_id|NULL"],
            &[],
        );
        assert_eq!((table.columns.len(), table.key.len(), table.uniques.len()), (1, 0, 0));
    }
}
