//! Which product answers on a pgwire connection.
use std::fmt;

use replicator_core::dialect::Product;
use thiserror::Error;
use tokio_postgres::Client;

/// The oldest PostgreSQL we know how to read the catalog of.
const POSTGRES_MIN: i32 = 110_000;

/// The server at the other end of a pgwire connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whose SQL it speaks.
    pub product: Product,
    /// Its name and version in its own words, without the build.
    pub version: String,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

/// The server's product could not be told, or is none of ours.
#[derive(Debug, Error)]
pub enum ProductError {
    /// The server refused the question.
    #[error("could not ask the server for its version")]
    Query(#[source] tokio_postgres::Error),
    /// Something that only speaks the same protocol.
    #[error("the server says it is \"{version}\"; PostgreSQL or CockroachDB is needed")]
    Unknown {
        /// What `version()` answered.
        version: String,
    },
    /// A PostgreSQL whose catalog lacks what we read.
    #[error("{version} is too old; PostgreSQL 11 or later is needed")]
    TooOld {
        /// Product and version.
        version: String,
    },
}

/// Asks the server what it is.
///
/// `server_version` alone does not tell: CockroachDB says `13.0.0` there.
///
/// # Errors
///
/// The connection failed, or the server is neither product, or it is too old.
pub async fn detect(client: &Client) -> Result<Server, ProductError> {
    const SQL: &str = "SELECT version()::TEXT, current_setting('server_version_num')::INT4";
    let row = client.query_typed(SQL, &[]).await.map_err(ProductError::Query)?;
    let row = row.first().ok_or_else(|| ProductError::Unknown { version: String::new() })?;
    let version: String = row.try_get(0).map_err(ProductError::Query)?;
    let number: i32 = row.try_get(1).map_err(ProductError::Query)?;
    judge(&version, number)
}

/// Tells the product by the text of `version()` and, for PostgreSQL, by `server_version_num`.
fn judge(version: &str, number: i32) -> Result<Server, ProductError> {
    let product = if version.starts_with("CockroachDB ") {
        Product::Cockroach
    } else if version.starts_with("PostgreSQL ") {
        Product::Postgres
    } else {
        return Err(ProductError::Unknown { version: version.to_owned() });
    };
    // "PostgreSQL 15.18 (Debian …) on x86_64…", "CockroachDB CCL v22.1.0 (x86_64…)".
    let name = version.split(" (").next().unwrap_or(version);
    let name = name.split(" on ").next().unwrap_or(name).to_owned();
    if product == Product::Postgres && number < POSTGRES_MIN {
        return Err(ProductError::TooOld { version: name });
    }
    Ok(Server { product, version: name })
}

#[cfg(test)]
mod tests {
    use super::{Product, ProductError, Server, judge};

    #[test]
    fn the_product_is_told_by_version_and_not_by_its_number() {
        let server = |product, version: &str| Server { product, version: version.to_owned() };
        assert_eq!(
            judge("PostgreSQL 15.18 (Debian 15.18-0) on x86_64-pc-linux-gnu", 150_018).unwrap(),
            server(Product::Postgres, "PostgreSQL 15.18")
        );
        assert_eq!(
            judge("PostgreSQL 18.4 on x86_64-pc-linux-gnu, compiled by gcc", 180_004).unwrap(),
            server(Product::Postgres, "PostgreSQL 18.4")
        );
        assert_eq!(
            judge("CockroachDB CCL v22.1.0 (x86_64-linux-gnu, built , go1.19.8)", 130_000).unwrap(),
            server(Product::Cockroach, "CockroachDB CCL v22.1.0")
        );
    }

    #[test]
    fn other_servers_are_refused() {
        assert!(matches!(judge("MaterializeDB 1", 150_000), Err(ProductError::Unknown { .. })));
        assert!(matches!(
            judge("PostgreSQL 10.23 on x", 100_023),
            Err(ProductError::TooOld { .. })
        ));
    }
}
