//! What only a source tells: its slot and its publication.
use super::super::data::Row;
use super::super::error::SqlError;
use super::super::table::TableDef;
use super::super::value::{Base, Value};
use super::super::{PUBLICATION, Role};
use super::facts::{published, text};
use super::{Asked, BOOL, INT4, INT8, Kind, TEXT, TEXTS};
use crate::cluster::slot::Slot;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        mark: "AS may_replicate",
        columns: &[
            ("version_number", INT4),
            ("wal_level", TEXT),
            ("in_recovery", BOOL),
            ("database_name", TEXT),
            ("role_name", TEXT),
            ("may_replicate", BOOL),
            ("system_identifier", INT8),
            ("timeline", INT8),
            ("written", TEXT),
        ],
        rows: |asked| {
            let slot = asked.slot()?;
            Ok(vec![vec![
                Value::Int(170_010),
                text("logical"),
                Value::Bool(false),
                text(asked.database),
                text(asked.user),
                Value::Bool(true),
                Value::Int(slot.system_identifier.cast_signed()),
                Value::Int(i64::from(slot.timeline)),
                text(&slot.written.to_string()),
            ]])
        },
    },
    Kind {
        mark: "pg_replication_slots",
        columns: &[
            ("slot_name", TEXT),
            ("slot_type", TEXT),
            ("plugin", TEXT),
            ("database_name", TEXT),
            ("active_pid", INT4),
            ("confirmed_flush", TEXT),
            ("wal_status", TEXT),
            ("invalidation_reason", TEXT),
            ("two_phase", BOOL),
        ],
        rows: |asked| {
            let slot = asked.slot()?;
            Ok(vec![vec![
                text(&slot.name),
                text("logical"),
                text("pgoutput"),
                text(&slot.database),
                slot.active_pid.map_or(Value::Null, |pid| Value::Int(i64::from(pid))),
                text(&slot.confirmed_flush.to_string()),
                text("reserved"),
                Value::Null,
                Value::Bool(false),
            ]])
        },
    },
    Kind {
        mark: "AS publication_name",
        columns: &[
            ("publication_name", TEXT),
            ("all_tables", BOOL),
            ("inserts", BOOL),
            ("updates", BOOL),
            ("deletes", BOOL),
            ("truncates", BOOL),
            ("tables", INT8),
        ],
        rows: |asked| {
            let yes = || Value::Bool(true);
            let count = published(asked.data).count();
            let count = Value::Int(i64::try_from(count).expect("few tables"));
            Ok(vec![vec![text(PUBLICATION), yes(), yes(), yes(), yes(), yes(), count]])
        },
    },
    Kind {
        mark: "AS type_text",
        columns: &[
            ("table_schema", TEXT),
            ("table_name", TEXT),
            ("column_name", TEXT),
            ("type_text", TEXT),
            ("not_null", BOOL),
            ("generated", BOOL),
            ("listed", BOOL),
        ],
        rows: |asked| {
            let rows = asked.published()?.flat_map(|table| {
                table.columns.iter().map(|column| {
                    vec![
                        text(&table.name.schema),
                        text(&table.name.table),
                        text(&column.name),
                        text(if column.of.base == Base::Int8 { "bigint" } else { "jsonb" }),
                        Value::Bool(column.not_null),
                        Value::Bool(false),
                        Value::Bool(true),
                    ]
                })
            });
            Ok(rows.collect())
        },
    },
    Kind {
        mark: "AS carrier_table",
        columns: &[
            ("root_schema", TEXT),
            ("root_table", TEXT),
            ("carrier_schema", TEXT),
            ("carrier_table", TEXT),
            ("identity", TEXT),
            ("index_name", TEXT),
            ("is_primary", BOOL),
            ("is_identity", BOOL),
            ("columns", TEXTS),
        ],
        rows: carriers,
    },
];

impl Asked<'_> {
    fn slot(&self) -> Result<Slot, SqlError> {
        match self.role {
            Role::Source(slot) => Ok(slot.now()),
            Role::Target => Err(SqlError::unknown("a target that is asked for its slot")),
        }
    }

    /// The tables of the publication that the first parameter names.
    fn published(&self) -> Result<impl Iterator<Item = &TableDef>, SqlError> {
        let known = self.text(0)? == PUBLICATION;
        Ok(published(self.data).filter(move |_| known))
    }
}

/// Every index over columns that refuse NULL could be the replica identity; the primary key is.
fn carriers(asked: &Asked<'_>) -> Result<Vec<Row>, SqlError> {
    let rows = asked.published()?.flat_map(|table| {
        let (schema, name) = (text(&table.name.schema), text(&table.name.table));
        let root = vec![schema.clone(), name.clone(), schema, name, text("d")];
        let whole = |columns: &[usize]| columns.iter().all(|at| table.columns[*at].not_null);
        let indexes: Vec<_> =
            table.uniques.iter().filter(|unique| whole(&unique.columns)).collect();
        if indexes.is_empty() {
            let none = vec![Value::Null; 4];
            return vec![[root, none].concat()];
        }
        let row = |unique: &&super::super::table::UniqueDef| {
            let columns = unique.columns.iter().map(|at| text(&table.columns[*at].name));
            let index = vec![
                text(&unique.name),
                Value::Bool(unique.primary),
                Value::Bool(false),
                Value::List(columns.collect()),
            ];
            [root.clone(), index].concat()
        };
        indexes.iter().map(row).collect()
    });
    Ok(rows.collect())
}
