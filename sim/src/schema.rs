//! The tables of every world: each kind of relation that makes order matter, in its smallest form.
//!
//! All values are small whole numbers. The last column of each table, `v`, counts the changes of the
//! whole source, so that an older value of a row can be told from a newer one.
use std::sync::{Arc, LazyLock};

use replicator_core::model::catalog::{
    Catalog, Column, Made, NamedForeignKey, Table, Unique, Wire,
};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;
use replicator_core::model::mutation::TableId;
use replicator_core::model::row::{Cell, Layout, Row, RowBuilder};

/// A value: NULL or a whole number.
pub type Value = Option<i64>;
/// The values of a row, or of its key.
pub type Tuple = Vec<Value>;

/// Tables that belong together. A world uses some of them.
pub const GROUPS: [&[&str]; 9] = [
    &["plain"],
    &["parent", "child"],
    &["parent", "left", "right", "bottom"],
    &["mail", "letter"],
    &["tree"],
    &["hen", "egg"],
    &["parent", "late"],
    &["odd"],
    &["pair"],
];

/// The table of transactions with many rows.
pub const BULK: &str = "bulk";

/// The one catalog of all worlds, and how the source lays out its rows.
#[derive(Debug)]
pub struct Schema {
    /// The target's tables.
    pub catalog: Arc<Catalog>,
    // One for each table and each way in which the source lays its rows out.
    layouts: Vec<[Arc<Layout>; LAYOUTS]>,
}

/// In how many ways the source lays the rows of a table out, one after the other.
pub const LAYOUTS: usize = 3;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::build);

/// The schema of all worlds.
#[must_use]
pub fn schema() -> &'static Schema {
    &SCHEMA
}

impl Schema {
    fn build() -> Self {
        let tables = vec![
            table("plain", &["id", "a?", "b?"]),
            table("parent", &["id", "a?"]),
            table("child", &["id", "parent?", "a?"]),
            // A diamond.
            table("left", &["id", "top"]),
            table("right", &["id", "top?"]),
            table("bottom", &["id", "left", "right"]),
            // A unique value, and a reference to it instead of to the key.
            unique(table("mail", &["id", "address?", "a?"]), &[1]),
            table("letter", &["id", "to?"]),
            // A reference to its own table.
            table("tree", &["id", "up?"]),
            // Two tables that refer to each other.
            table("hen", &["id", "egg?"]),
            table("egg", &["id", "hen"]),
            // Checked at the end of the transaction.
            table("late", &["id", "parent"]),
            // A key whose equality is not in its text.
            loose(table("odd", &["id", "a?"])),
            // A key of two columns, in the other order, and a unique index of two.
            key(unique(table("pair", &["x", "y", "n?"]), &[2, 0]), &[1, 0]),
            // Many rows.
            table(BULK, &["id", "a?"]),
        ];
        let foreign_keys = [
            fk("child", 1, "parent", 0),
            fk("left", 1, "parent", 0),
            fk("right", 1, "parent", 0),
            fk("bottom", 1, "left", 0),
            fk("bottom", 2, "right", 0),
            fk("letter", 1, "mail", 1),
            fk("tree", 1, "tree", 0),
            fk("hen", 1, "egg", 0),
            fk("egg", 1, "hen", 0),
            NamedForeignKey { deferrable: true, ..fk("late", 1, "parent", 0) },
        ];
        let catalog = Catalog::new(tables, &foreign_keys);
        let layouts = |(id, table)| std::array::from_fn(|number| layout(id, table, number));
        let layouts = catalog.tables().map(layouts).collect();
        Self { catalog: Arc::new(catalog), layouts }
    }

    /// The table of this name.
    #[must_use]
    pub fn id(&self, name: &str) -> TableId {
        self.catalog.find(&TableName::new("public", name)).expect("a table of the schema")
    }

    /// What a table is called.
    #[must_use]
    pub fn name(&self, id: TableId) -> &str {
        &self.catalog.table(id).name.table
    }

    /// A row as the source sends it, laid out in one of [`LAYOUTS`] ways. `cells` has one for each target
    /// column.
    #[must_use]
    pub fn row(&self, id: TableId, number: usize, cells: &[Sent]) -> Row {
        let layout = &self.layouts[index(id)][number];
        let mut row = RowBuilder::new();
        for column in &layout.columns {
            match column.map(|column| cells[usize::from(column)]) {
                Some(Sent::Value(Some(number))) => {
                    row.push(Cell::Text(number.to_string().as_bytes()));
                }
                Some(Sent::Value(None)) => row.push(Cell::Null),
                Some(Sent::Unchanged) => row.push(Cell::Unchanged),
                // The target makes this one itself.
                None => row.push(Cell::Text(b"made")),
            }
        }
        row.finish(Arc::clone(layout)).expect("one cell for each column of the layout")
    }
}

/// A cell of a row that the source sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// With its value.
    Value(Value),
    /// Without, because the change did not touch it.
    Unchanged,
}

/// A table's place in lists of tables.
#[must_use]
pub fn index(id: TableId) -> usize {
    usize::try_from(id.0).expect("table numbers are small")
}

/// The source's columns come in another order than the target's, and it has one more, or later two.
fn layout(id: TableId, table: &Table, number: usize) -> Arc<Layout> {
    let count = u16::try_from(table.columns.len()).expect("few columns");
    let mut columns: Vec<Option<u16>> = (0..count).map(Some).collect();
    columns.rotate_left((index(id) + number) % table.columns.len());
    columns.insert(1, None);
    if number == 1 {
        columns.push(None);
    }
    Arc::new(Layout { table: id, columns })
}

/// A table with these columns and `v`; `?` marks those that take NULL.
fn table(name: &str, columns: &[&str]) -> Table {
    let column = |name: &str| Column {
        name: name.trim_end_matches('?').to_owned(),
        cast: "int8".to_owned(),
        kind: KeyKind::Int,
        wire: Wire::Int8,
        nullable: name.ends_with('?'),
        made: Made::Written,
        has_default: false,
    };
    Table {
        name: TableName::new("public", name),
        columns: columns.iter().chain(&["v"]).map(|name| column(name)).collect(),
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

fn unique(mut table: Table, columns: &[u16]) -> Table {
    table.uniques.push(Unique { name: "unique".to_owned(), columns: Some(columns.to_vec()) });
    table
}

fn key(mut table: Table, columns: &[u16]) -> Table {
    table.key = columns.to_vec();
    table
}

fn loose(mut table: Table) -> Table {
    table.columns[0].kind = KeyKind::Loose;
    table
}

fn fk(child: &str, column: u16, parent: &str, parent_column: u16) -> NamedForeignKey {
    NamedForeignKey {
        child: TableName::new("public", child),
        name: format!("{child}_{parent}"),
        columns: vec![column],
        parent: TableName::new("public", parent),
        parent_columns: vec![parent_column],
        deferrable: false,
    }
}
