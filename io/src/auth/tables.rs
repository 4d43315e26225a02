//! Public keys and revoked tokens in the documented tables of a staging database.
//!
//! | table | columns |
//! |---|---|
//! | `jwt_public_keys` | `id`, `public_key` (PEM), `active` |
//! | `jwt_revoked_ids` | `id`: the `jti` of a void token |
use super::keyring::{Material, PublicKeyText};
use super::keys::TEXT_BYTES_MAX;
use super::reload::{KeySource, KeySourceError};
use crate::net::Dial;
use crate::pg::pool::Pool;
use crate::staging::schema::{PUBLIC_KEYS, REVOKED_IDS, StagingName};

/// Rows of keys that are looked at. There is room for fewer keys.
const KEYS_MAX: usize = 256;

/// Revoked tokens: some 10 MiB of them.
const REVOKED_MAX: usize = 200_000;

/// Longest id of a token that is taken, in characters. The gate takes none that is as long.
const ID_CHARS_MAX: usize = TEXT_BYTES_MAX;

/// Reads keys from tables.
#[derive(Debug)]
pub struct TableKeys<D: Dial> {
    pool: Pool<D>,
    keys: String,
    revoked: String,
}

impl<D: Dial> TableKeys<D> {
    pub(crate) fn new(pool: Pool<D>, name: &StagingName) -> Self {
        Self { pool, keys: name.table(PUBLIC_KEYS), revoked: name.table(REVOKED_IDS) }
    }

    async fn query(
        &self,
        table: &str,
        sql: &str,
        limit: usize,
    ) -> Result<Vec<(String, String)>, KeySourceError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| KeySourceError::Table {
            table: table.to_owned(),
            source,
        };
        let session = self.pool.take().await.map_err(|error| failed(error.into()))?;
        let rows = session.client().query(sql, &[]).await.map_err(|error| failed(error.into()))?;
        self.pool.put(session);
        if limit < rows.len() {
            return Err(KeySourceError::Rows { table: table.to_owned(), limit });
        }
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

impl<D: Dial> KeySource for TableKeys<D> {
    fn hint(&self) -> String {
        format!("run INSERT INTO {} (public_key) VALUES ('a public key in PEM')", self.keys)
    }

    async fn load(&mut self) -> Result<Material, KeySourceError> {
        let Self { keys, revoked, .. } = &*self;
        let longest = TEXT_BYTES_MAX.saturating_add(1);
        // Longer ones are cut, and then refused for their length.
        let read_keys = format!(
            "SELECT id::TEXT, left(public_key, {longest}) FROM {keys} WHERE active \
             ORDER BY id LIMIT {}",
            KEYS_MAX + 1
        );
        let read_revoked =
            format!("SELECT left(id, {ID_CHARS_MAX}), '' FROM {revoked} LIMIT {}", REVOKED_MAX + 1);
        let revoked = self.query(revoked, &read_revoked, REVOKED_MAX).await?;
        let keys_read = self.query(keys, &read_keys, KEYS_MAX).await?;
        let text = |(id, text): (String, String)| PublicKeyText {
            place: format!("the key with id {id} in {keys}"),
            text: text.into_bytes(),
        };
        Ok(Material {
            keys: keys_read.into_iter().map(text).collect(),
            revoked: revoked.into_iter().map(|(id, _)| id).collect(),
            complaints: Vec::new(),
        })
    }
}
