//! What a run needs of a target that is MySQL or MariaDB.
use std::sync::Arc;

use replicator_core::OnReject;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use tracing::debug;

use super::super::trouble::Trouble;
use super::StartSettings;
use super::target::{mysql_options, open};
use crate::clock::Clock;
use crate::error_chain;
use crate::mysql::conninfo::MySqlConnInfo;
use crate::mysql::pool::MySqlPool;
use crate::target::mysql::{
    MySqlProgressTable, MySqlRecord, MySqlTarget, MySqlTargetOptions, catalog, find_dead_letters,
};

/// How much larger than asked for a batch may become while the target cannot keep up. Statements of many rows
/// cost little, but all of them are one message.
pub(super) const GROWTH: usize = 4;

/// A schema of the target.
pub(super) struct MySqlSide<'a> {
    pub(super) conninfo: &'a MySqlConnInfo,
    pub(super) settings: &'a StartSettings,
    pub(super) schema: &'a str,
}

impl MySqlSide<'_> {
    pub(super) async fn catalog(&self) -> Result<Catalog, Trouble> {
        let mut session = open(self.conninfo, self.settings.apply_timeout).await?;
        let read = catalog::load(&mut session, self.schema).await;
        read.map_err(|error| Trouble::settings("target", &error))
    }

    /// The table of progress in the target.
    pub(super) fn progress(
        &self,
        table: &str,
        catalog: &Catalog,
    ) -> Result<MySqlProgressTable, Trouble> {
        let Self { conninfo, settings, schema } = *self;
        let limit = settings.apply_timeout;
        let name = TableName::new(schema, table);
        MySqlProgressTable::find(conninfo.clone(), mysql_options(limit), catalog, &name, limit)
            .map_err(|error| Trouble::Settings(error.to_string()))
    }

    /// Sessions, once the server is through with what an earlier run sent it.
    pub(super) async fn pool(&self, clock: Clock) -> Result<MySqlPool, Trouble> {
        let Self { conninfo, settings, schema } = *self;
        let options = mysql_options(settings.apply_timeout);
        let pool = MySqlPool::new(conninfo.clone(), options, settings.target_pool, clock, schema);
        let waited = pool.wait_for_earlier().await;
        waited.map_err(|error| Trouble::Passing(format!("target: {}", error_chain(&error))))?;
        Ok(pool)
    }

    /// The adapter.
    pub(super) fn target(
        &self,
        pool: MySqlPool,
        catalog: &Arc<Catalog>,
        record: Option<MySqlRecord>,
    ) -> Result<MySqlTarget, Trouble> {
        let Self { settings, schema, .. } = *self;
        let dead_letters = match settings.core.on_reject {
            OnReject::Stop => None,
            OnReject::DeadLetter { .. } => {
                let name = TableName::new(schema, &settings.dlq_table);
                find_dead_letters(catalog, &name)
                    .map_err(|error| Trouble::Settings(error.to_string()))?;
                Some(name)
            }
        };
        let (catalog, apply_timeout) = (Arc::clone(catalog), settings.apply_timeout);
        let options = MySqlTargetOptions { catalog, record, apply_timeout, dead_letters };
        Ok(MySqlTarget::new(pool, options))
    }

    /// Returns when the target's tables are not what they were.
    pub(super) async fn schema_changed(&self, known: &Arc<Catalog>) -> Trouble {
        let Some(period) = self.settings.schema_refresh else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(period).await;
            match self.catalog().await {
                Ok(current) if current == **known => (),
                Ok(_) => return Trouble::Passing("the target's tables have changed".to_owned()),
                Err(
                    Trouble::Passing(reason) | Trouble::Settings(reason) | Trouble::Lasting(reason),
                ) => debug!("could not look for schema changes: {reason}"),
            }
        }
    }
}
