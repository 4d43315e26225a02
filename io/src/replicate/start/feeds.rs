//! Which feeds the runs of a schema wait for, and which of them keep the others waiting.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::{Quoted, SchemaName, TableName};
use replicator_core::model::mode::Mode;
use replicator_core::model::position::PartitionId;
use replicator_core::model::time::Hlc;
use tracing::{info, warn};

use super::attempt::Attempt;
use super::store::Store;
use crate::net::Dial;
use crate::port::{Fence, Staging as _};
use crate::source::changefeed::feeds::{Feed, Feeds};

/// A feed that is further behind another one keeps it waiting.
const BEHIND: Duration = Duration::from_secs(300);

/// After so many looks, one a second, that is told.
const LOOKS: u32 = 300;

/// And after so many it is told again.
const LOOKS_AGAIN: u32 = 3600;

/// What one run of a schema leaves to the next one.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// In which mode.
    pub(super) mode: Option<Mode>,
    /// Feeds that have called.
    pub(super) newcomers: BTreeSet<Feed>,
    /// Whether the feeds are forgotten that the operator named.
    has_forgotten: bool,
}

/// The feeds of a run, and whether they are to be saved.
pub(super) struct Chosen {
    pub(super) feeds: Feeds,
    is_new: bool,
}

impl<D: Dial> Attempt<D> {
    /// The feeds that the next run waits for. `store` is the one of a schema with these feeds.
    pub(super) async fn choose_feeds(
        &self,
        store: impl Fn(&Feeds) -> Store<D>,
        catalog: &Catalog,
    ) -> Result<Chosen, Failure> {
        let (newcomers, forgotten) = {
            let memory = self.memory();
            let names = &self.shared.settings.forget_feeds;
            let forgotten = if memory.has_forgotten { &[] } else { &**names };
            (memory.newcomers.clone(), of_schema(forgotten, &self.schema))
        };
        let alone = store(&Feeds::default());
        let saved = alone.feeds().await?.map(|text| Feeds::from_text(&text, catalog));
        let before = match &saved {
            Some(feeds) => feeds.iter().cloned().collect(),
            None if newcomers.is_empty() || has_called(&alone).await? => {
                BTreeSet::from([Feed::Schema])
            }
            None => BTreeSet::new(),
        };
        for feed in forgotten.difference(&before) {
            warn!(schema = %self.schema, "--forgetFeeds: there is no feed of {feed}");
        }
        let now = before.difference(&forgotten).cloned().chain(newcomers).collect();
        let feeds = Feeds::new(now);
        let is_new = feeds != saved.unwrap_or_default();
        Ok(Chosen { feeds, is_new })
    }

    /// From here on a restart waits for them, too.
    pub(super) async fn keep_feeds(
        &self,
        store: &Store<D>,
        fence: Fence,
        chosen: &Chosen,
    ) -> Result<(), Failure> {
        let Chosen { feeds, is_new } = chosen;
        if *is_new {
            store.save_feeds(fence, &feeds.to_text()).await?;
            info!(schema = %self.schema, "rows wait for the promises of the feeds of {feeds}");
        }
        let mut memory = self.memory();
        memory.has_forgotten = true;
        memory.newcomers.retain(|feed| feeds.partition(feed).is_none());
        Ok(())
    }
}

/// Whether the schema's own feed has ever brought anything.
async fn has_called<D: Dial>(store: &Store<D>) -> Result<bool, Failure> {
    let (_, durable) = store.begin().await?;
    let promised = durable.resolved.values().any(|time| *time != Hlc::default());
    Ok(promised || store.newest().await? != Hlc::default())
}

/// The feeds of one schema among those with these names: of schemas, and of tables in them.
fn of_schema(names: &[Vec<String>], schema: &SchemaName) -> BTreeSet<Feed> {
    let own: Vec<&String> = schema.database.iter().chain([&schema.schema]).collect();
    let feed = |parts: &Vec<String>| {
        let (named, rest) = parts.split_at_checked(own.len())?;
        match rest {
            _ if named.iter().ne(own.iter().copied()) => None,
            [] => Some(Feed::Schema),
            [table] => Some(Feed::Table(TableName::new(&schema.schema, table))),
            _ => None,
        }
    };
    names.iter().filter_map(feed).collect()
}

/// Watches for feeds that keep the others waiting.
#[derive(Debug)]
pub(super) struct Laggards {
    schema: SchemaName,
    feeds: Feeds,
    looks: BTreeMap<PartitionId, u32>,
}

impl Laggards {
    pub(super) fn new(schema: SchemaName, feeds: Feeds) -> Self {
        Self { schema, feeds, looks: BTreeMap::new() }
    }

    /// To be called once a second, with the last promise of each.
    pub(super) fn look(&mut self, promised: &BTreeMap<PartitionId, Hlc>) {
        for (feed, promised) in self.behind(promised) {
            let name = match &feed {
                Feed::Schema => self.schema.to_string(),
                Feed::Table(table) => format!("{}.{}", self.schema, Quoted(&table.table)),
            };
            warn!(
                schema = %self.schema, %promised,
                "the feed of {feed} is minutes behind the others, which wait for it; if it is gone for good, \
                 start once with --forgetFeeds '{name}'"
            );
        }
    }

    /// The feeds that are to be told of, each with its last promise.
    fn behind(&mut self, promised: &BTreeMap<PartitionId, Hlc>) -> Vec<(Feed, Hlc)> {
        let newest = promised.values().max().copied().unwrap_or_default();
        let far = u64::try_from(BEHIND.as_nanos()).unwrap_or(u64::MAX);
        let mut told = Vec::new();
        for feed in self.feeds.iter() {
            let Some(partition) = self.feeds.partition(feed) else { continue };
            let own = promised.get(&partition).copied().unwrap_or_default();
            let looks = self.looks.entry(partition).or_default();
            let is_behind = far < newest.nanos.saturating_sub(own.nanos);
            *looks = if is_behind { looks.saturating_add(1) } else { 0 };
            if *looks == LOOKS || (*looks > 0 && looks.is_multiple_of(LOOKS_AGAIN)) {
                told.push((feed.clone(), own));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BTreeMap, BTreeSet, Feed, Feeds, Hlc, LOOKS, Laggards, PartitionId, SchemaName, TableName,
        of_schema,
    };

    fn schema() -> SchemaName {
        SchemaName { database: Some("app".to_owned()), schema: "public".to_owned() }
    }

    fn orders() -> Feed {
        Feed::Table(TableName::new("public", "orders"))
    }

    #[test]
    fn the_operator_names_feeds_by_schemas_and_tables() {
        let names = |names: &[&[&str]]| -> Vec<Vec<String>> {
            names
                .iter()
                .map(|parts| parts.iter().map(|part| (*part).to_owned()).collect())
                .collect()
        };
        let given = names(&[
            &["app", "public", "orders"],
            &["app", "public"],
            &["app", "other", "orders"],
            &["app"],
            &["app", "public", "orders", "more"],
        ]);
        assert_eq!(of_schema(&given, &schema()), BTreeSet::from([Feed::Schema, orders()]));
        let shop = SchemaName { database: None, schema: "shop".to_owned() };
        let given = names(&[&["shop", "orders"], &["app", "public"]]);
        let orders = Feed::Table(TableName::new("shop", "orders"));
        assert_eq!(of_schema(&given, &shop), BTreeSet::from([orders]));
    }

    #[test]
    fn a_feed_is_told_of_that_stays_behind_and_not_one_that_catches_up() {
        let feeds = Feeds::new(BTreeSet::from([Feed::Schema, orders()]));
        let mut laggards = Laggards::new(schema(), feeds);
        let minutes = |count: u64| Hlc { nanos: count * 60_000_000_000, logical: 0 };
        let ahead = |schema, orders| {
            BTreeMap::from([(PartitionId(0), minutes(schema)), (PartitionId(1), minutes(orders))])
        };
        for _ in 1..LOOKS {
            assert_eq!(laggards.behind(&ahead(20, 10)), []);
        }
        assert_eq!(laggards.behind(&ahead(20, 16)), []);
        for _ in 1..LOOKS {
            assert_eq!(laggards.behind(&ahead(20, 10)), []);
        }
        assert_eq!(laggards.behind(&ahead(20, 10)), [(orders(), minutes(10))]);
        assert_eq!(laggards.behind(&ahead(20, 10)), []);
    }
}
