//! What a run stands on: both sides looked at, staging prepared.
use std::time::Duration;

use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::ident::SchemaName;
use tracing::{info, warn};

use super::attempt::Attempt;
use super::side::session_options;
use super::trouble::Trouble;
use crate::net::Dial;
use crate::pg::connect::{SessionOptions, SqlSession, connect_sql};
use crate::pg::conninfo::ConnInfo;
use crate::pg::pool::{Pool, PoolLimits, Pooled};
use crate::preflight::{self, Facts, Severity, StagingOptions};
use crate::staging::pg_store::PgStore;
use crate::staging::schema::{self, StagingName};
use crate::target::pgwire::TargetPool;
use crate::target::product;
use crate::target::record::Record;

/// What a run stands on.
pub(super) struct Ground<D: Dial> {
    pub(super) facts: Facts,
    pub(super) schema: SchemaName,
    pub(super) dialect: Dialect,
    pub(super) target: TargetPool<D>,
    pub(super) store: PgStore<D>,
    pub(super) record: Option<Record>,
}

impl<D: Dial> Attempt<D> {
    /// Connects to both sides, prepares staging and looks for what stands in the way.
    pub(super) async fn prepare(&self) -> Result<Ground<D>, Trouble> {
        let settings = &*self.settings;
        let options = SessionOptions::default();
        let source = connect(&self.dial, "source", &settings.source, &options).await?;
        let target_session = connect(&self.dial, "target", &settings.target, &options).await?;
        let client = target_session.client();
        let limit = settings.apply_timeout;
        let server = answer("target", limit, product::detect(client)).await?;
        let product = server.product;
        let schema = self.schema();
        let database = schema.database.clone().unwrap_or_else(|| settings.target.database.clone());

        let own_staging = match &settings.staging {
            Some(staging) => Some(connect(&self.dial, "staging", staging, &options).await?),
            None => None,
        };
        let store_product = match &own_staging {
            Some(session) => {
                answer("staging", limit, product::detect(session.client())).await?.product
            }
            None => product,
        };
        let store_conninfo = settings.staging.as_ref().unwrap_or(&settings.target);
        let staging_name =
            StagingName::resolve(&settings.staging_schema, store_product, &store_conninfo.database)
                .map_err(|error| Trouble::Lasting(error.to_string()))?;
        let shared = settings.staging.is_none();
        let preflight_options = preflight::Options {
            slot: settings.slot.clone(),
            publication: settings.publication.clone(),
            target_schema: schema.clone(),
            staging: shared.then(|| StagingOptions {
                name: staging_name.clone(),
                create: settings.staging_create,
            }),
            answer_limit: limit,
        };
        let report = preflight::run(source.client(), client, product, &preflight_options)
            .await
            .map_err(|error| Trouble::settings("preflight", &error))?;
        let Some(facts) = report.facts else {
            let text = report.findings.to_string();
            let passes = report.findings.may_pass();
            return Err(if passes { Trouble::Passing(text) } else { Trouble::Settings(text) });
        };
        if self.first {
            info!("connected to {} and {server}", facts.source_version);
            for finding in report.findings.iter().filter(|f| f.severity == Severity::Warning) {
                warn!("{finding}");
            }
        }

        let store_session = own_staging.unwrap_or(target_session);
        let prepared =
            schema::prepare(store_session.client(), &staging_name, settings.staging_create);
        answer("staging", limit, prepared).await?;
        let store_pool = self.pool(store_conninfo, store_product, settings.staging_pool);
        let named = self.schema_text();
        let store = PgStore::pglogical(store_pool, store_product, &staging_name, &named, limit);
        let record = shared.then(|| Record::in_staging(store.record_names(), product));
        let dialect = Dialect { product, database };
        let target: TargetPool<D> = self.pool(&settings.target, product, settings.target_pool);
        Ok(Ground { facts, schema, dialect, target, store, record })
    }

    /// Where the rows go. The default is what the database calls public, said once.
    fn schema(&self) -> SchemaName {
        if let Some(schema) = &self.settings.target_schema {
            return schema.clone();
        }
        if self.first {
            let database = &self.settings.target.database;
            info!("no --targetSchema given; rows go to schema public of database {database}");
        }
        SchemaName { database: None, schema: "public".to_owned() }
    }

    /// The schema as memo keys spell it: the flag's own text, unquoted.
    fn schema_text(&self) -> String {
        match &self.settings.target_schema {
            Some(SchemaName { database: Some(database), schema }) => format!("{database}.{schema}"),
            Some(SchemaName { database: None, schema }) => schema.clone(),
            None => "public".to_owned(),
        }
    }

    fn pool<S: Pooled<D>>(
        &self,
        conninfo: &ConnInfo,
        product: Product,
        limits: PoolLimits,
    ) -> Pool<D, S> {
        let options = session_options(product, self.settings.apply_timeout);
        Pool::new(self.dial.clone(), conninfo.clone(), options, limits, self.clock)
    }
}

/// Connects to one side.
pub(super) async fn connect<D: Dial>(
    dial: &D,
    side: &str,
    conninfo: &ConnInfo,
    options: &SessionOptions,
) -> Result<SqlSession, Trouble> {
    connect_sql(dial, conninfo, options).await.map_err(|error| {
        Trouble::settings(&format!("could not connect to {side} database"), &error)
    })
}

/// Waits for an answer to a question at the start, but not for ever.
pub(super) async fn answer<T, E: std::error::Error>(
    side: &str,
    limit: Duration,
    answers: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, answers).await {
        Ok(answers) => answers.map_err(|error| Trouble::settings(side, &error)),
        Err(_) => {
            let text = format!("{side} did not answer within {} s", limit.as_secs());
            Err(Trouble::Settings(text))
        }
    }
}
