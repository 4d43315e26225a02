//! Positions of MySQL and MariaDB sources, in CockroachDB or PostgreSQL.
//!
//! The documented key of `memo` holds where to go on from, as the older tool wrote it. A second one holds what that
//! text cannot say: the number of the last transaction, and what was executed if XA transactions without an outcome
//! hold the position back. If the first was changed without the second, by an operator or by the older tool, it
//! counts, and everything after it is applied again.
use std::collections::BTreeMap;
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::gtid::{BinlogFlavor, GtidNames, GtidPosition};
use replicator_core::model::position::Position;
use replicator_core::{Durable, Failure};
use tracing::warn;

use super::memo::{Begun, Memo, RecordTable, Spent};
use super::schema::StagingName;
use crate::net::Dial;
use crate::ordinals::{Ordinals, Place};
use crate::pg::pool::Pool;
use crate::port::{Fence, Staging};

/// The staging store of one stream. Clones share sessions.
#[derive(Debug)]
pub struct GtidStore<D: Dial> {
    memo: Memo<D>,
    keys: Keys,
    ordinals: Ordinals,
    given: Option<String>,
}

#[derive(Clone, Debug)]
struct Keys {
    position: String,
    place: String,
    identity: String,
}

/// What is saved.
enum Saved {
    /// Nothing of use: a position at most.
    Position(Option<GtidPosition>),
    /// All of it.
    Place(Place),
}

impl<D: Dial> Clone for GtidStore<D> {
    fn clone(&self) -> Self {
        let Self { memo, keys, ordinals, given } = self;
        let (memo, keys) = (memo.clone(), keys.clone());
        Self { memo, keys, ordinals: ordinals.clone(), given: given.clone() }
    }
}

impl<D: Dial> GtidStore<D> {
    /// The store for a source that feeds `target_schema`, as the flag spells it: the memo keys of the older tool are
    /// built from that text. `ordinals` is what numbers stand for. Without a saved position a stream begins after
    /// `given`, the text of `--defaultGTIDSet`.
    ///
    /// `timeout` is for one request.
    #[must_use]
    pub fn mylogical(
        pool: Pool<D>,
        product: Product,
        name: &StagingName,
        target_schema: &str,
        timeout: Duration,
        ordinals: Ordinals,
        given: Option<String>,
    ) -> Self {
        let table = name.table("replicator_applied_gtids");
        let records = RecordTable { name: table, column: "gtids" };
        let stream = format!("mylogical-{target_schema}");
        let keys = Keys {
            position: format!("mysql-wal-offset-{target_schema}"),
            place: format!("mysql-place-{target_schema}"),
            identity: format!("mysql-source-{target_schema}"),
        };
        Self {
            memo: Memo::new(pool, product, name, records, stream, timeout),
            keys,
            ordinals,
            given,
        }
    }

    /// What the target needs to write its records here: tables of applied runs and of fences, and the
    /// name of the stream.
    #[must_use]
    pub fn record_names(&self) -> (&str, &str, &str) {
        self.memo.record_names()
    }

    /// The server that the saved position was read from, as [`save_identity`] wrote it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    ///
    /// [`save_identity`]: Self::save_identity
    pub async fn identity(&self) -> Result<Option<String>, Failure> {
        self.memo.value(&self.keys.identity).await
    }

    /// Says which server the position is read from. Replaces what was there.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_identity(&self, identity: &str) -> Result<(), Failure> {
        self.memo.put(&self.keys.identity, identity).await
    }

    /// The SQL by which an operator forgets the saved position and all that belongs to it.
    #[must_use]
    pub fn forget_sql(&self) -> String {
        let Keys { position, place, identity } = &self.keys;
        self.memo.forget_sql(&[position, place, identity])
    }

    fn flavor(&self) -> BinlogFlavor {
        self.ordinals.flavor()
    }

    /// Reads what is saved.
    fn saved(&self, position: Option<&[u8]>, place: Option<&[u8]>) -> Result<Saved, Failure> {
        let Some(position) = position else { return Ok(Saved::Position(None)) };
        let text = std::str::from_utf8(position).map_err(|_| self.unreadable())?;
        let resumable = self.parse(text)?;
        let place = place.and_then(|place| read_place(self.flavor(), text, place));
        Ok(match place {
            Some((ordinal, Some(executed))) => {
                Saved::Place(Place { ordinal, executed, held_back: Some(resumable) })
            }
            Some((ordinal, None)) => Saved::Place(Place { ordinal, ..Place::after(resumable) }),
            None => Saved::Position(Some(resumable)),
        })
    }

    /// Where to begin if nothing is saved.
    fn given(&self) -> Result<GtidPosition, Failure> {
        let rejected = |detail: String| Failure::Rejected { detail, at: None };
        let Some(given) = &self.given else {
            return Err(rejected(
                "there is no saved position: say with --defaultGTIDSet which transactions the target has \
                 already"
                    .to_owned(),
            ));
        };
        GtidPosition::parse(self.flavor(), given)
            .map_err(|error| rejected(format!("--defaultGTIDSet cannot be used: {error}")))
    }

    fn parse(&self, text: &str) -> Result<GtidPosition, Failure> {
        GtidPosition::parse(self.flavor(), text).map_err(|_| self.unreadable())
    }

    fn unreadable(&self) -> Failure {
        self.memo.broken("saved position")
    }

    /// Of records: the names of all transactions beyond `place`.
    fn applied(
        &self,
        place: &Place,
        records: &[(Option<String>, String)],
    ) -> Result<GtidNames, Failure> {
        let mut applied = GtidNames::new(self.flavor());
        let broken = || self.memo.broken("applied record");
        for (gtids, _) in records {
            let gtids = gtids.as_deref().unwrap_or_default();
            let names = GtidNames::parse(self.flavor(), gtids).map_err(|_| broken())?;
            if !names.is_within(&place.executed) {
                applied.union(&names).map_err(|_| broken())?;
            }
        }
        Ok(applied)
    }

    fn values(&self, place: &Place) -> [(&str, String); 2] {
        let position = one_line(place.resumable());
        let executed = place.held_back.as_ref().map(|_| one_line(&place.executed));
        let value = serde_json::json!({
            // Text, because JSON readers round large numbers.
            "ordinal": place.ordinal.to_string(),
            "position": position,
            "executed": executed,
        });
        [(&self.keys.position, position), (&self.keys.place, value.to_string())]
    }
}

impl<D: Dial> Staging for GtidStore<D> {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        let Begun { fence, values: [position, place], records } =
            self.memo.begin([&self.keys.position, &self.keys.place]).await?;
        let place = match self.saved(position.as_deref(), place.as_deref())? {
            Saved::Place(place) => {
                let applied = self.applied(&place, &records)?;
                self.ordinals.resume(place.clone(), applied);
                // Records of earlier runs are kept until none of them is of use: their numbers say nothing.
                place
            }
            Saved::Position(saved) => {
                if let Some(saved) = &saved {
                    warn!(position = %one_line(saved), "taking over a saved position of somebody else");
                }
                let place = Place::after(saved.map_or_else(|| self.given(), Ok)?);
                self.ordinals.resume(place.clone(), GtidNames::new(self.flavor()));
                place
            }
        };
        let nothing_applied = self.ordinals.applied() == GtidNames::new(self.flavor());
        if nothing_applied {
            // From here on a crash resumes here, and records count from here.
            self.memo.save(fence, &self.values(&place), Spent::Earlier).await?;
        }
        let checkpoint = Some(Position::Ordinal(place.ordinal));
        Ok((fence, Durable { checkpoint, applied: Vec::new(), resolved: BTreeMap::new() }))
    }

    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        let place = self.ordinals.place(position).map_err(|error| Failure::Rejected {
            detail: format!("the position cannot be saved: {error}"),
            at: None,
        })?;
        self.memo.save(fence, &self.values(&place), Spent::OwnThrough(position)).await
    }
}

/// Reads a place that belongs to `position`: the number, and what was executed if that is more.
fn read_place(
    flavor: BinlogFlavor,
    position: &str,
    text: &[u8],
) -> Option<(u64, Option<GtidPosition>)> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    if value.get("position")?.as_str()? != position {
        return None;
    }
    let ordinal = value.get("ordinal")?.as_str()?.parse().ok()?;
    let executed = value.get("executed")?.as_str();
    let executed = executed.map(|text| GtidPosition::parse(flavor, text)).transpose().ok()?;
    Some((ordinal, executed))
}

/// As servers print it, without the breaks between lines.
fn one_line(position: &GtidPosition) -> String {
    position.to_string().replace('\n', "")
}
