//! Numbers in the file and the names behind them, and what they are in the catalog of a run.
use std::collections::BTreeMap;
use std::sync::Arc;

use replicator_core::Failure;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::TableId;
use replicator_core::model::row::Layout;
use replicator_core::staged::{
    LayoutNames, StagedError, StoredLayout, StoredTable, decode_key, decode_table, encode_table,
};

use super::tables::STREAM_BYTES;

/// So many layouts of a table are remembered by themselves. One more costs a look at the names.
const LAYOUTS_MAX: usize = 64;

/// All names of the file.
#[derive(Debug, Default)]
pub(super) struct Names {
    tables: BTreeMap<StoredTable, TableName>,
    table_numbers: BTreeMap<TableName, StoredTable>,
    layouts: BTreeMap<StoredLayout, LayoutNames>,
    layout_numbers: BTreeMap<LayoutNames, StoredLayout>,
    // Names that the file does not have yet.
    fresh: Fresh,
}

/// Names that are to be written before the rows that refer to them.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) tables: Vec<(StoredTable, Vec<u8>)>,
    pub(super) layouts: Vec<(StoredLayout, Vec<u8>)>,
}

impl Names {
    /// Takes a name from the file.
    pub(super) fn load_table(&mut self, number: u32, bytes: &[u8]) -> Result<(), StagedError> {
        let (number, name) = (StoredTable(number), decode_table(bytes)?);
        self.table_numbers.insert(name.clone(), number);
        self.tables.insert(number, name);
        Ok(())
    }

    /// Takes a layout from the file.
    pub(super) fn load_layout(&mut self, number: u32, bytes: &[u8]) -> Result<(), StagedError> {
        let (number, names) = (StoredLayout(number), LayoutNames::decode(bytes)?);
        self.layout_numbers.insert(names.clone(), number);
        self.layouts.insert(number, names);
        Ok(())
    }

    /// Names that are to be written.
    pub(super) fn take_fresh(&mut self) -> Fresh {
        std::mem::take(&mut self.fresh)
    }

    fn number_of_table(&mut self, name: &TableName) -> StoredTable {
        if let Some(number) = self.table_numbers.get(name) {
            return *number;
        }
        let next = self.tables.last_key_value().map_or(0, |(last, _)| last.0 + 1);
        let number = StoredTable(next);
        self.fresh.tables.push((number, encode_table(name)));
        self.table_numbers.insert(name.clone(), number);
        self.tables.insert(number, name.clone());
        number
    }

    fn number_of_layout(&mut self, names: LayoutNames) -> StoredLayout {
        if let Some(number) = self.layout_numbers.get(&names) {
            return *number;
        }
        let next = self.layouts.last_key_value().map_or(0, |(last, _)| last.0 + 1);
        let number = StoredLayout(next);
        self.fresh.layouts.push((number, names.encode()));
        self.layout_numbers.insert(names.clone(), number);
        self.layouts.insert(number, names);
        number
    }
}

/// What names are in one catalog, as far as somebody asked.
#[derive(Debug)]
pub(super) struct Mapping {
    catalog: Arc<Catalog>,
    tables: BTreeMap<TableId, StoredTable>,
    // Of each table those that were used last.
    layouts: BTreeMap<TableId, Vec<(Arc<Layout>, StoredLayout)>>,
    read_tables: BTreeMap<StoredTable, TableId>,
    read_layouts: BTreeMap<StoredLayout, Arc<Layout>>,
}

impl Mapping {
    /// Nothing has been asked.
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        let (tables, layouts) = (BTreeMap::new(), BTreeMap::new());
        let (read_tables, read_layouts) = (BTreeMap::new(), BTreeMap::new());
        Self { catalog, tables, layouts, read_tables, read_layouts }
    }

    /// Whether it is of this catalog.
    pub(super) fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.catalog, catalog)
    }

    /// The numbers for a row that is to be written.
    pub(super) fn write(
        &mut self,
        names: &mut Names,
        layout: &Arc<Layout>,
    ) -> (StoredTable, StoredLayout) {
        let id = layout.table;
        let table = self.catalog.table(id);
        let number = *self.tables.entry(id).or_insert_with(|| names.number_of_table(&table.name));
        let known = self.layouts.entry(id).or_default();
        let same = |(other, _): &&(Arc<Layout>, StoredLayout)| {
            Arc::ptr_eq(other, layout) || other == layout
        };
        if let Some((_, stored)) = known.iter().find(same) {
            return (number, *stored);
        }
        let stored = names.number_of_layout(LayoutNames::of(layout, number, table));
        if known.len() == LAYOUTS_MAX {
            known.clear();
        }
        known.push((Arc::clone(layout), stored));
        (number, stored)
    }

    /// The table of a row that is read.
    pub(super) fn table(&mut self, names: &Names, number: StoredTable) -> Result<TableId, Unread> {
        if let Some(id) = self.read_tables.get(&number) {
            return Ok(*id);
        }
        let name = names.tables.get(&number).ok_or(Unread::NoName)?;
        let id = self.catalog.find(name).ok_or_else(|| Unread::NoTable(name.clone()))?;
        self.read_tables.insert(number, id);
        Ok(id)
    }

    /// Whether the row with this key is in a lane.
    pub(super) fn is_in(
        &mut self,
        names: &Names,
        lane: &Lane,
        key: &[u8],
    ) -> Result<bool, StagedError> {
        if *lane == Lane::Whole {
            return Ok(true);
        }
        let (_, number) = decode_key(key.get(STREAM_BYTES..).unwrap_or_default())?;
        // One whose table has no name, or is not there any more, is told when it is read.
        Ok(lane.has(self.table(names, number).ok()))
    }

    /// The layout of a row that is read, of that table.
    pub(super) fn layout(
        &mut self,
        names: &Names,
        id: TableId,
        stored: StoredLayout,
    ) -> Result<Arc<Layout>, Unread> {
        if let Some(layout) = self.read_layouts.get(&stored)
            && layout.table == id
        {
            return Ok(Arc::clone(layout));
        }
        let by_name = names.layouts.get(&stored).ok_or(Unread::NoName)?;
        let of_table = names.tables.get(&by_name.table) == Some(&self.catalog.table(id).name);
        if !of_table {
            return Err(Unread::NoName);
        }
        let layout = Arc::new(by_name.resolve(id, self.catalog.table(id))?);
        self.read_layouts.insert(stored, Arc::clone(&layout));
        Ok(layout)
    }
}

/// Why a staged row cannot be read back.
#[derive(Debug)]
pub(super) enum Unread {
    /// The file does not say what a number stands for.
    NoName,
    /// The target has no such table.
    NoTable(TableName),
    /// The row itself.
    Row(StagedError),
}

impl From<StagedError> for Unread {
    fn from(error: StagedError) -> Self {
        Self::Row(error)
    }
}

impl Unread {
    /// As the machine hears of it.
    pub(super) fn failure(&self, path: &std::path::Path) -> Failure {
        match self {
            Self::NoName => {
                let detail = "a row refers to a name that is not there";
                super::EmbeddedError::damaged(path, &detail).failure()
            }
            Self::NoTable(name) => Failure::Rejected {
                detail: format!(
                    "staging: rows of table {name} are staged, but the target has no such table; \
                     create it again, so that they can be applied"
                ),
                at: None,
            },
            Self::Row(error) => super::error::row_failure(path, error),
        }
    }
}
