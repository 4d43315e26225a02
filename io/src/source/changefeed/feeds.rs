//! The changefeeds of a schema. Each is a partition, with promises of its own.
//!
//! One whose URL is the schema's brings rows of any table, and there is at most one partition for all of that
//! kind: nothing that they send tells them apart. One whose URL names a table, as that of a query must, brings
//! rows of that table alone, and its promises say nothing about the others. So the schema is complete as far as
//! the feed has promised that is furthest behind.
//!
//! Which feeds there are is known only when they have called, and it is written down, so that after a restart
//! none is forgotten that is a little late.
use std::collections::BTreeSet;
use std::fmt;

use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::position::PartitionId;

/// What the text has on a line for the schema's own feed. Names of tables have a dot.
const SCHEMA: &str = "*";

/// One feed, as far as its URL tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feed {
    /// Its URL is the schema's.
    Schema,
    /// Its URL names this table of the target.
    Table(TableName),
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema => f.write_str("the schema"),
            Self::Table(table) => write!(f, "table {table}"),
        }
    }
}

/// The feeds that a run waits for. There is always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feeds {
    // Not empty. A partition is an index into it.
    feeds: BTreeSet<Feed>,
}

impl Default for Feeds {
    /// The schema's alone.
    fn default() -> Self {
        Self { feeds: BTreeSet::from([Feed::Schema]) }
    }
}

impl Feeds {
    /// These feeds; if there are none, the schema's.
    #[must_use]
    pub fn new(feeds: BTreeSet<Feed>) -> Self {
        if feeds.is_empty() { Self::default() } else { Self { feeds } }
    }

    /// Reads what [`to_text`](Self::to_text) wrote. A table that is gone has no feed any more.
    #[must_use]
    pub fn from_text(text: &str, catalog: &Catalog) -> Self {
        let names: BTreeSet<&str> = text.lines().collect();
        let tables = catalog.tables().map(|(_, table)| &table.name);
        let tables = tables.filter(|name| names.contains(&*name.to_string()));
        let schema = names.contains(SCHEMA).then_some(Feed::Schema);
        Self::new(schema.into_iter().chain(tables.cloned().map(Feed::Table)).collect())
    }

    /// One a line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for feed in &self.feeds {
            match feed {
                Feed::Schema => text.push_str(SCHEMA),
                Feed::Table(table) => text.push_str(&table.to_string()),
            }
            text.push('\n');
        }
        text
    }

    /// In the order of their partitions.
    pub fn iter(&self) -> impl Iterator<Item = &Feed> {
        self.feeds.iter()
    }

    /// The partition of a feed, if it is one of these.
    #[must_use]
    pub fn partition(&self, feed: &Feed) -> Option<PartitionId> {
        let index = self.feeds.iter().position(|known| known == feed)?;
        u32::try_from(index).ok().map(PartitionId)
    }

    /// The names of the partitions in a store that knows the schema's as `schema`.
    #[must_use]
    pub fn partitions(&self, schema: &str) -> Vec<String> {
        let name = |feed: &Feed| match feed {
            Feed::Schema => schema.to_owned(),
            Feed::Table(TableName { table, .. }) => format!("{schema}.{table}"),
        };
        self.feeds.iter().map(name).collect()
    }
}

impl fmt::Display for Feeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, feed) in self.feeds.iter().enumerate() {
            let and = if index == 0 { "" } else { ", " };
            write!(f, "{and}{feed}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::catalog::{Catalog, Table};
    use replicator_core::model::fk::Place;

    use super::{BTreeSet, Feed, Feeds, PartitionId, TableName};

    fn catalog(tables: &[&str]) -> Catalog {
        let table = |name: &&str| Table {
            name: TableName::new("public", name),
            columns: Vec::new(),
            key: Vec::new(),
            uniques: Vec::new(),
            foreign_keys: Vec::new(),
            place: Place::default(),
            referenced: false,
            untold: false,
        };
        Catalog::new(tables.iter().map(table).collect(), &[])
    }

    fn table(name: &str) -> Feed {
        Feed::Table(TableName::new("public", name))
    }

    #[test]
    fn feeds_come_back_from_their_text_but_for_those_of_tables_that_are_gone() {
        let feeds = Feeds::new(BTreeSet::from([Feed::Schema, table("a.b"), table("*")]));
        let all = catalog(&["a.b", "*", "b"]);
        assert_eq!(Feeds::from_text(&feeds.to_text(), &all), feeds);
        let left = Feeds::from_text(&feeds.to_text(), &catalog(&["*"]));
        assert_eq!(left, Feeds::new(BTreeSet::from([Feed::Schema, table("*")])));
        // Somebody has to promise something.
        let only = Feeds::new(BTreeSet::from([table("b")]));
        assert_eq!(Feeds::from_text(&only.to_text(), &all), only);
        assert_eq!(Feeds::from_text(&only.to_text(), &catalog(&[])), Feeds::default());
    }

    #[test]
    fn each_feed_has_a_partition_with_a_name() {
        let feeds = Feeds::new(BTreeSet::from([table("orders"), Feed::Schema]));
        assert_eq!(feeds.partition(&Feed::Schema), Some(PartitionId(0)));
        assert_eq!(feeds.partition(&table("orders")), Some(PartitionId(1)));
        assert_eq!(feeds.partition(&table("Orders")), None);
        assert_eq!(feeds.partitions("app.public"), ["app.public", "app.public.orders"]);
        assert_eq!(feeds.to_string(), "the schema, table \"public\".\"orders\"");
    }
}
