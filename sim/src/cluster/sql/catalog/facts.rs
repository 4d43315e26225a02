//! What every server tells: itself, its schemas, tables, columns, indexes and foreign keys.
use std::sync::Arc;

use replicator_core::dialect::Product;

use super::super::data::{Data, Row};
use super::super::error::SqlError;
use super::super::table::TableDef;
use super::super::value::Value;
use super::{Asked, BOOL, INT4, INT8, Kind, TEXT};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        mark: "version()",
        columns: &[("version", TEXT), ("current_setting", INT4)],
        rows: |asked| {
            let (version, number) = match asked.data.product {
                Product::Postgres => ("PostgreSQL 17.10 on pretend", 170_010),
                // A real one says so, too.
                Product::Cockroach => ("CockroachDB CCL v25.2.0 (pretend)", 130_000),
            };
            Ok(vec![vec![text(version), Value::Int(number)]])
        },
    },
    Kind {
        mark: "SHOW server_version_num",
        columns: &[("server_version_num", TEXT)],
        rows: |_| Ok(vec![vec![text("170010")]]),
    },
    Kind {
        mark: "AS type_schema",
        columns: &[
            ("table_name", TEXT),
            ("position", INT8),
            ("column_name", TEXT),
            ("type_schema", TEXT),
            ("type_name", TEXT),
            ("type_kind", TEXT),
            ("element_schema", TEXT),
            ("element_name", TEXT),
            ("is_domain", BOOL),
            ("not_null", BOOL),
            ("has_default", BOOL),
            ("identity_always", BOOL),
            ("is_identity", BOOL),
            ("generated", BOOL),
            ("loose_collation", BOOL),
            ("visibility", TEXT),
        ],
        rows: columns,
    },
    Kind {
        mark: "AS usable",
        columns: &[
            ("table_name", TEXT),
            ("index_name", TEXT),
            ("position", INT8),
            ("is_primary", BOOL),
            ("usable", BOOL),
            ("plain", BOOL),
        ],
        rows: indexes,
    },
    Kind {
        mark: "AS constraint_name",
        columns: &[
            ("child_table", TEXT),
            ("constraint_name", TEXT),
            ("parent_table", TEXT),
            ("child_position", INT8),
            ("parent_position", INT8),
            ("is_deferrable", BOOL),
        ],
        rows: foreign_keys,
    },
    Kind {
        mark: "AS schema_exists",
        columns: &[
            ("database_name", TEXT),
            ("role_name", TEXT),
            ("schema_exists", BOOL),
            ("schema_usage", BOOL),
        ],
        rows: |asked| {
            let exists = Value::Bool(asked.data.schemas.contains(&asked.text(0)?));
            Ok(vec![vec![text(asked.database), text(asked.user), exists.clone(), exists]])
        },
    },
    Kind {
        mark: "AS may_select",
        columns: &[
            ("table_name", TEXT),
            ("may_select", BOOL),
            ("may_insert", BOOL),
            ("may_update", BOOL),
            ("may_delete", BOOL),
        ],
        rows: |asked| {
            let yes = || Value::Bool(true);
            let row = |table: &TableDef| vec![text(&table.name.table), yes(), yes(), yes(), yes()];
            Ok(asked.tables()?.map(row).collect())
        },
    },
    Kind {
        mark: "r.rolcreatedb AS may_create",
        columns: &[("present", BOOL), ("may_create", BOOL)],
        rows: |_| Ok(vec![vec![Value::Bool(true), Value::Bool(true)]]),
    },
    Kind {
        mark: "pg_database WHERE datname = $1",
        columns: &[("?column?", INT4)],
        rows: |asked| {
            let is_ours = asked.text(0)? == asked.database;
            Ok(is_ours.then(|| vec![Value::Int(1)]).into_iter().collect())
        },
    },
    Kind {
        mark: "pg_namespace n WHERE n.nspname = $1",
        columns: &[("?column?", INT4)],
        rows: schema_exists,
    },
    Kind {
        mark: "AS may_create_schema",
        columns: &[
            ("present", BOOL),
            ("usage", BOOL),
            ("may_create_tables", BOOL),
            ("may_create_schema", BOOL),
        ],
        rows: |asked| {
            let exists = Value::Bool(asked.data.schemas.contains(&asked.text(0)?));
            Ok(vec![vec![exists.clone(), exists.clone(), exists, Value::Bool(true)]])
        },
    },
    Kind {
        mark: "column_name = 'hostname'",
        columns: &[("?column?", INT4)],
        rows: |asked| {
            let name = asked.text(1)?;
            let has =
                |table: &TableDef| table.name.table == name && table.column("hostname").is_ok();
            Ok(asked.tables()?.filter(|table| has(table)).map(|_| vec![Value::Int(1)]).collect())
        },
    },
    Kind {
        mark: "conname::TEXT",
        columns: &[("conname", TEXT)],
        rows: |asked| {
            let name = asked.text(0)?;
            let shown = |table: &&Arc<TableDef>| table.name.to_string() == name;
            let table = asked.data.tables.iter().find(shown);
            let primary = table.and_then(|table| table.uniques.iter().find(|index| index.primary));
            Ok(primary.map(|index| vec![text(&index.name)]).into_iter().collect())
        },
    },
    Kind {
        mark: "AS our_columns",
        columns: &[("all_columns", INT8), ("our_columns", INT8)],
        rows: |asked| {
            let name = asked.text(1)?;
            let found = asked.tables()?.find(|table| table.name.table == name);
            let columns = found.map(|table| table.columns.iter()).into_iter().flatten();
            let ours = ["nanos", "logical", "key", "mut"];
            let (mut all, mut known) = (0, 0);
            for column in columns {
                all += 1;
                known += i64::from(ours.contains(&column.name.as_str()));
            }
            Ok(vec![vec![Value::Int(all), Value::Int(known)]])
        },
    },
    Kind {
        mark: "c.relname::TEXT FROM",
        columns: &[("relname", TEXT)],
        rows: |asked| Ok(asked.tables()?.map(|table| vec![text(&table.name.table)]).collect()),
    },
    Kind {
        mark: "pg_namespace WHERE nspname = $1",
        columns: &[("?column?", INT4)],
        rows: schema_exists,
    },
];

fn schema_exists(asked: &Asked<'_>) -> Result<Vec<Row>, SqlError> {
    let exists = asked.data.schemas.contains(&asked.text(0)?);
    Ok(exists.then(|| vec![Value::Int(1)]).into_iter().collect())
}

impl Asked<'_> {
    /// A parameter that is text.
    pub(super) fn text(&self, number: usize) -> Result<String, SqlError> {
        match self.params.get(number) {
            Some(Value::Text(text)) => Ok(text.clone()),
            other => Err(SqlError::unknown(&format!("{other:?} as parameter of a question"))),
        }
    }

    /// The tables of the schema that the first parameter names.
    fn tables(&self) -> Result<impl Iterator<Item = &TableDef>, SqlError> {
        let schema = self.text(0)?;
        let tables = self.data.tables.iter().map(|table| &**table);
        Ok(tables.filter(move |table| table.name.schema == schema))
    }
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// `attnum` of a column.
fn position(column: usize) -> Value {
    Value::Int(i64::try_from(column).expect("few columns") + 1)
}

fn columns(asked: &Asked<'_>) -> Result<Vec<Row>, SqlError> {
    let no = || Value::Bool(false);
    let rows = asked.tables()?.flat_map(|table| {
        table.columns.iter().enumerate().map(|(place, column)| {
            vec![
                text(&table.name.table),
                position(place),
                text(&column.name),
                text("pg_catalog"),
                text(column.of.base.name()),
                text("b"),
                Value::Null,
                Value::Null,
                no(),
                Value::Bool(column.not_null),
                Value::Bool(column.default.is_some()),
                no(),
                no(),
                no(),
                no(),
                text("visible"),
            ]
        })
    });
    Ok(rows.collect())
}

fn indexes(asked: &Asked<'_>) -> Result<Vec<Row>, SqlError> {
    let rows = asked.tables()?.flat_map(|table| {
        table.uniques.iter().flat_map(|unique| {
            unique.columns.iter().map(|column| {
                vec![
                    text(&table.name.table),
                    text(&unique.name),
                    position(*column),
                    Value::Bool(unique.primary),
                    Value::Bool(true),
                    Value::Bool(true),
                ]
            })
        })
    });
    Ok(rows.collect())
}

fn foreign_keys(asked: &Asked<'_>) -> Result<Vec<Row>, SqlError> {
    let schema = asked.text(0)?;
    let rows = asked.tables()?.flat_map(|table| {
        let keys = table.foreign_keys.iter().filter(|fk| fk.parent.schema == schema);
        keys.flat_map(|fk| {
            fk.columns.iter().zip(&fk.parent_columns).map(|(child, parent)| {
                vec![
                    text(&table.name.table),
                    text(&fk.name),
                    text(&fk.parent.table),
                    position(*child),
                    position(*parent),
                    Value::Bool(fk.deferrable),
                ]
            })
        })
    });
    Ok(rows.collect())
}

/// The tables of a source that are published: all in `public`.
pub(super) fn published(data: &Data) -> impl Iterator<Item = &TableDef> {
    data.tables.iter().map(|table| &**table).filter(|table| table.name.schema == "public")
}
