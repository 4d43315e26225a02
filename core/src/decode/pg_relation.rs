//! Source tables → target tables: which target table and columns the cells of a row belong to.
//!
//! Tables are matched by schema and name, columns by name, letter for letter. A description that does
//! not fit the target stops nothing by itself: a table may be published that nobody writes to. The
//! first row does.
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::fit::{KEYLESS, check_key, check_missing, key_columns};
use super::pg_assemble_error::AssembleError;
use super::pg_message::{Relation, RelationId, ReplicaIdentity};
use crate::model::catalog::{Catalog, Made, Table};
use crate::model::ident::TableName;
use crate::model::mutation::TableId;
use crate::model::row::Layout;
use crate::stop::SchemaDrift;

/// The source tables that were described.
#[derive(Debug)]
pub(super) struct Relations {
    catalog: Arc<Catalog>,
    target_schema: Option<String>,
    known: BTreeMap<RelationId, Known>,
    // The source table whose rows a target table gets.
    owners: BTreeMap<TableId, (RelationId, TableName)>,
}

/// A source table, and where its rows go if they can.
#[derive(Debug)]
struct Known {
    source: TableName,
    mapped: Result<Mapped, AssembleError>,
}

/// A source table and what its rows are for the target.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    /// Its name at the source.
    pub(super) source: TableName,
    /// The target table.
    pub(super) table: TableId,
    /// Where the cells of a whole row go.
    pub(super) layout: Arc<Layout>,
    /// Where the cells of a replica identity go. Its other cells hold nothing.
    pub(super) identity: Arc<Layout>,
    /// Why updates and deletes do not say which row of the target they mean, if so.
    pub(super) unidentified: Option<String>,
    // Whether this table is in `owners`.
    owner: bool,
}

impl Relations {
    pub(super) const fn new(catalog: Arc<Catalog>, target_schema: Option<String>) -> Self {
        Self { catalog, target_schema, known: BTreeMap::new(), owners: BTreeMap::new() }
    }

    /// Remembers what a table looks like from here on.
    pub(super) fn describe(&mut self, relation: &Relation) {
        let before = self.known.remove(&relation.relation);
        let before = before.and_then(|known| known.mapped.ok());
        let source = source_name(relation);
        let mapped = self.map(relation, &source).map(|mapped| mapped.reuse(before));
        self.known.insert(relation.relation, Known { source, mapped });
    }

    /// The source table with this number and its target table, for a row that has to be applied.
    #[inline]
    pub(super) fn usable(
        &mut self,
        relation: RelationId,
    ) -> Result<(&Mapped, &Table), AssembleError> {
        let Some(known) = self.known.get_mut(&relation) else {
            return Err(AssembleError::UnknownRelation { relation });
        };
        let mapped = known.mapped.as_mut().map_err(|error| error.clone())?;
        let table = self.catalog.table(mapped.table);
        if !mapped.owner {
            claim(&mut self.owners, relation, mapped, table)?;
        }
        Ok((mapped, table))
    }

    /// The name of a source table, whatever the target says to it.
    pub(super) fn name(&self, relation: RelationId) -> String {
        match self.known.get(&relation) {
            Some(known) => format!("{}", known.source),
            None => format!("table number {}", relation.0),
        }
    }

    fn map(&self, relation: &Relation, source: &TableName) -> Result<Mapped, AssembleError> {
        let schema = self.target_schema.as_ref().unwrap_or(&source.schema);
        let target = TableName::new(schema, &source.table);
        let Some(id) = self.catalog.find(&target) else {
            return Err(SchemaDrift::NoTable { table: target }.into());
        };
        let table = self.catalog.table(id);
        let indexes = find_columns(table, relation, source)?;
        let missing = |column: u16| !indexes.contains(&column);
        check_missing(table, missing)?;
        check_key(table, &source, missing)?;

        let columns: Vec<Option<u16>> = indexes
            .iter()
            .map(|index| (table.column(*index).made != Made::Generated).then_some(*index))
            .collect();
        let full = relation.identity == ReplicaIdentity::Full;
        let of_identity: Vec<Option<u16>> = columns
            .iter()
            .zip(&relation.columns)
            .map(|(index, column)| index.filter(|_| full || column.is_identity()))
            .collect();
        let unidentified = unidentified(table, source, &of_identity);
        let layout = Arc::new(Layout { table: id, columns });
        let identity = Arc::new(Layout { table: id, columns: of_identity });
        let source = source.clone();
        Ok(Mapped { source, table: id, layout, identity, unidentified, owner: false })
    }
}

impl Mapped {
    /// Keeps the layouts of an earlier description if nothing has changed: servers describe a table
    /// again after every little thing, and rows of one layout are applied together.
    fn reuse(mut self, before: Option<Self>) -> Self {
        if let Some(before) = before {
            if before.layout == self.layout {
                self.layout = before.layout;
            }
            if before.identity == self.identity {
                self.identity = before.identity;
            }
        }
        self
    }
}

/// Schema and name at the source. An empty schema stands for `pg_catalog`.
fn source_name(relation: &Relation) -> TableName {
    let schema = if relation.namespace.is_empty() { "pg_catalog" } else { &relation.namespace };
    TableName::new(schema, &relation.name)
}

/// Makes sure that rows of two source tables never meet in one target table. A table that got another
/// name or another number replaces its former self.
fn claim(
    owners: &mut BTreeMap<TableId, (RelationId, TableName)>,
    relation: RelationId,
    mapped: &mut Mapped,
    table: &Table,
) -> Result<(), AssembleError> {
    if let Some((owner, name)) = owners.get(&mapped.table)
        && *owner != relation
        && *name != mapped.source
    {
        return Err(AssembleError::SameTarget {
            target: table.name.clone().into(),
            first: name.clone(),
            second: mapped.source.clone(),
        });
    }
    owners.insert(mapped.table, (relation, mapped.source.clone()));
    mapped.owner = true;
    Ok(())
}

/// For each source column the index of the target column of the same name.
fn find_columns(
    table: &Table,
    relation: &Relation,
    source: &TableName,
) -> Result<Vec<u16>, AssembleError> {
    let mut indexes = Vec::new();
    let mut unexpected: Vec<&str> = Vec::new();
    for column in &relation.columns {
        match table.find_column(&column.name) {
            Some(index) if indexes.contains(&index) => {
                let (table, column) = (source.clone(), column.name.clone());
                return Err(AssembleError::ColumnTwice { table, column });
            }
            Some(index) => indexes.push(index),
            None => unexpected.push(&column.name),
        }
    }
    if unexpected.is_empty() {
        return Ok(indexes);
    }
    let (table, columns) = (table.name.clone(), unexpected.join(", "));
    Err(SchemaDrift::UnexpectedColumns { table, columns }.into())
}

/// Why the replica identity does not identify a row of the target, if so. If a column of the target's
/// key were outside of it, the source would not even say that an update has changed the key.
fn unidentified(table: &Table, source: &TableName, identity: &[Option<u16>]) -> Option<String> {
    if table.key.is_empty() {
        return Some(KEYLESS.into());
    }
    let names = key_columns(table, |index| !identity.contains(&Some(index)));
    (!names.is_empty()).then(|| {
        format!(
            "{names}, part of the target's key, is not in the replica identity; run at the source: \
             ALTER TABLE {source} REPLICA IDENTITY FULL"
        )
    })
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{AssembleError, Relations};
    use crate::decode::pg_message::{Relation, RelationColumn, RelationId, ReplicaIdentity};
    use crate::fixture;
    use crate::model::catalog::{Catalog, Made, Table};
    use crate::model::ident::TableName;
    use crate::stop::SchemaDrift;

    fn relation(number: u32, schema: &str, name: &str, columns: &[&str]) -> Relation {
        let columns = columns.iter().map(|name| RelationColumn {
            flags: u8::from(*name == "id"),
            name: (*name).into(),
            type_oid: 20,
            type_modifier: u32::MAX,
        });
        Relation {
            relation: RelationId(number),
            namespace: schema.into(),
            name: name.into(),
            identity: ReplicaIdentity::Default,
            columns: columns.collect(),
        }
    }

    /// `t(id, a, b)` keyed by `id`; `b` may be NULL.
    fn table() -> Table {
        let mut table = fixture::table("t", &[("id", "int8"), ("a", "text"), ("b", "text")], 1);
        table.columns[2].nullable = true;
        table
    }

    fn relations(table: Table, target_schema: Option<&str>) -> Relations {
        Relations::new(Arc::new(Catalog::new(vec![table], &[])), target_schema.map(Into::into))
    }

    /// What the first row of a table of these columns meets.
    fn check(table: Table, columns: &[&str]) -> Result<Vec<Option<u16>>, AssembleError> {
        let mut relations = relations(table, None);
        relations.describe(&relation(7, "public", "t", columns));
        let (mapped, _) = relations.usable(RelationId(7))?;
        Ok(mapped.layout.columns.clone())
    }

    #[test]
    fn columns_are_matched_by_name() {
        assert_eq!(check(table(), &["b", "id", "a"]), Ok(vec![Some(2), Some(0), Some(1)]));
        assert_eq!(check(table(), &["id", "a"]), Ok(vec![Some(0), Some(1)]));
    }

    #[test]
    fn columns_that_the_target_lacks_are_named() {
        let columns = "A, x".into();
        let drift = SchemaDrift::UnexpectedColumns { table: table().name, columns };
        assert_eq!(check(table(), &["id", "a", "A", "x"]), Err(drift.into()));
    }

    #[test]
    fn columns_that_the_source_lacks_are_named_unless_the_target_can_fill_them() {
        let drift = SchemaDrift::MissingColumns { table: table().name, columns: "a".into() };
        assert_eq!(check(table(), &["id", "b"]), Err(drift.into()));
        let mut with_default = table();
        with_default.columns[1].has_default = true;
        assert!(check(with_default, &["id", "b"]).is_ok());
        let mut generated = table();
        generated.columns[1].made = Made::Generated;
        assert_eq!(check(generated, &["id", "b", "a"]), Ok(vec![Some(0), Some(2), None]));
    }

    #[test]
    fn a_key_that_the_source_does_not_send_is_refused() {
        let mut other_key = table();
        other_key.columns[0].has_default = true;
        let error = check(other_key, &["a", "b"]).unwrap_err();
        let reason = "\"public\".\"t\" does not send id, part of the target's key".into();
        assert_eq!(error, SchemaDrift::NoKey { table: table().name, reason }.into());
    }

    #[test]
    fn a_column_described_twice_is_refused() {
        let error = AssembleError::ColumnTwice { table: table().name, column: "a".into() };
        assert_eq!(check(table(), &["id", "a", "a"]), Err(error));
    }

    #[test]
    fn a_key_outside_of_the_replica_identity_does_not_identify_rows() {
        let mut by_a = table();
        by_a.key = vec![1];
        let mut relations = relations(by_a, None);
        relations.describe(&relation(7, "public", "t", &["id", "a"]));
        let reason = relations.usable(RelationId(7)).unwrap().0.unidentified.clone();
        let expected = "a, part of the target's key, is not in the replica identity; run at the \
                        source: ALTER TABLE \"public\".\"t\" REPLICA IDENTITY FULL";
        assert_eq!(reason.as_deref(), Some(expected));
    }

    #[test]
    fn w42_tables_are_told_apart_by_their_schema() {
        let mut relations = relations(table(), None);
        relations.describe(&relation(1, "public", "t", &["id", "a"]));
        relations.describe(&relation(2, "other", "t", &["id", "a"]));
        assert!(relations.usable(RelationId(1)).is_ok());
        let drift = SchemaDrift::NoTable { table: TableName::new("other", "t") };
        assert_eq!(relations.usable(RelationId(2)).map(drop), Err(drift.into()));
    }

    #[test]
    fn w42_tables_of_two_schemas_never_meet_in_one_target_table() {
        let mut relations = relations(table(), Some("public"));
        relations.describe(&relation(1, "one", "t", &["id", "a"]));
        relations.describe(&relation(2, "two", "t", &["id", "a"]));
        assert!(relations.usable(RelationId(2)).is_ok());
        let target = TableName::new("public", "t").into();
        let (first, second) = (TableName::new("two", "t"), TableName::new("one", "t"));
        let error = AssembleError::SameTarget { target, first, second };
        assert_eq!(relations.usable(RelationId(1)).map(drop), Err(error));
    }

    #[test]
    fn a_table_that_was_made_again_or_moved_keeps_its_target() {
        let mut relations = relations(table(), Some("public"));
        for (number, schema) in [(1, "one"), (2, "one"), (2, "two"), (3, "two")] {
            relations.describe(&relation(number, schema, "t", &["id", "a"]));
            assert!(relations.usable(RelationId(number)).is_ok(), "{number} {schema}");
        }
    }

    #[test]
    fn a_description_that_says_nothing_else_keeps_the_layout() {
        let mut relations = relations(table(), None);
        let mut layout = |columns: &[&str]| {
            relations.describe(&relation(1, "public", "t", columns));
            Arc::clone(&relations.usable(RelationId(1)).unwrap().0.layout)
        };
        let first = layout(&["id", "a"]);
        assert!(Arc::ptr_eq(&first, &layout(&["id", "a"])));
        assert!(!Arc::ptr_eq(&first, &layout(&["a", "id"])));
    }
}
