//! The webhook with its gate over real sockets, in front of a run that only writes down what it gets.
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use replicator_core::Event;
use replicator_core::decode::changefeed::{Changefeed, Limits, TargetKind};
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::{SchemaName, TableName};
use replicator_core::model::key::KeyKind;
use replicator_core::model::mutation::{Change, TimedMutation};
use replicator_core::model::row::Cell;
use replicator_core::model::time::WallTime;
use replicator_io::auth::{
    Claims, KeySource, KeySourceError, Material, PublicKeyText, Reloader, SigningKey,
};
use replicator_io::http::{HttpLimits, serve};
use replicator_io::port::Source as _;
use replicator_io::source::changefeed::feeds::Feeds;
use replicator_io::source::changefeed::inbox::{self, Requests};
use replicator_io::source::changefeed::webhook::{Absent, Live, Runs, WebhookLimits, router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

const PRIVATE: &str = include_str!("../../src/auth/fixtures/p256.sec1.pem");
const PUBLIC: &str = include_str!("../../src/auth/fixtures/p256.pub.pem");
const OTHER_PRIVATE: &str = include_str!("../../src/auth/fixtures/p384.sec1.pem");

const REVOKED: &str = "revoked";

/// Of one body.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// Of one body.
pub(crate) const ROWS_MAX: usize = 10_000;

/// Tokens of several kinds. One of them is good, for schema "public" of database "app".
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) good: String,
    /// Good, for another schema.
    pub(crate) elsewhere: String,
    /// Good but for its id.
    pub(crate) revoked: String,
    /// By somebody whose key we do not have.
    pub(crate) stranger: String,
    /// With our public key as the shared secret.
    pub(crate) shared: String,
    /// Without a signature.
    pub(crate) unsigned: String,
}

impl Tokens {
    fn new() -> Self {
        let key = |text: &str| SigningKey::from_pem(text.as_bytes()).expect("a private key");
        let claims = |id: &str, schema: &str| {
            Claims::new(id.to_owned(), vec![vec!["app".to_owned(), schema.to_owned()]])
        };
        let (ours, public) = (key(PRIVATE), claims("good", "public"));
        let good = ours.sign(&public).expect("it can be signed");
        let secret = EncodingKey::from_secret(PUBLIC.as_bytes());
        let shared =
            encode(&Header::new(Algorithm::HS256), &public, &secret).expect("it can be signed");
        let payload = good.split('.').nth(1).expect("a token has three parts");
        Self {
            elsewhere: ours.sign(&claims("elsewhere", "other")).expect("it can be signed"),
            revoked: ours.sign(&claims(REVOKED, "public")).expect("it can be signed"),
            stranger: key(OTHER_PRIVATE).sign(&public).expect("it can be signed"),
            // {"alg":"none"}
            unsigned: format!("eyJhbGciOiJub25lIn0.{payload}."),
            shared,
            good,
        }
    }
}

struct Keys;

impl KeySource for Keys {
    fn hint(&self) -> String {
        "there is one".to_owned()
    }

    async fn load(&mut self) -> Result<Material, KeySourceError> {
        let key = PublicKeyText { place: "the key".to_owned(), text: PUBLIC.into() };
        let revoked = BTreeSet::from([REVOKED.to_owned()]);
        Ok(Material { keys: vec![key], revoked, complaints: Vec::new() })
    }
}

/// One run for one schema.
struct OneRun(Arc<Live>);

impl Runs for OneRun {
    async fn live(&self, schema: &SchemaName) -> Result<Arc<Live>, Absent> {
        let ours = schema.database.as_deref() == Some("app") && schema.schema == "public";
        if ours { Ok(Arc::clone(&self.0)) } else { Err(Absent::Unknown) }
    }
}

/// The table "t" with the one column "id".
fn catalog() -> Catalog {
    let column = Column {
        name: "id".to_owned(),
        cast: "int8".to_owned(),
        kind: KeyKind::Int,
        wire: Wire::Int8,
        nullable: false,
        made: Made::Written,
        has_default: false,
    };
    let table = Table {
        name: TableName::new("public", "t"),
        columns: vec![column],
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    };
    Catalog::new(vec![table], &[])
}

/// A server, and the keys of the rows that were staged.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tokens: Tokens,
    staged: Arc<Mutex<Vec<u32>>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let body =
            Limits { body_bytes_max: BODY_BYTES_MAX, rows_max: ROWS_MAX, ..Limits::default() };
        let limits = WebhookLimits {
            body,
            bodies_bytes_max: 8 << 20,
            response_timeout: Duration::from_millis(500),
        };
        let http = HttpLimits {
            connections_max: 256,
            head_timeout: Duration::from_millis(400),
            idle_timeout: Duration::from_secs(1),
            grace: Duration::from_secs(1),
        };
        let (inbox, requests) = inbox::open();
        let kind = TargetKind::Postgres;
        let reader = Changefeed::new(Arc::new(catalog()), "public".to_owned(), kind, body);
        let run =
            OneRun(Arc::new(Live::new(inbox, reader, Feeds::default(), watch::Sender::default())));
        let (gate, _reloader) = Reloader::begin(Keys, || WallTime { micros: 0 }).await;
        let (stop, stopped) = watch::channel(false);
        let staged = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, None, router(kind, limits, run, gate), http, stopped.clone()));
        tasks.spawn(write_down(requests, Arc::clone(&staged), stopped));
        Self { address, tokens: Tokens::new(), staged, stop, tasks }
    }

    /// Stops it, and returns the keys of all rows that it took.
    pub(crate) async fn stop(mut self) -> Vec<u32> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the server has not died");
        }
        std::mem::take(&mut self.staged.lock().expect("nobody died"))
    }
}

async fn write_down(
    mut requests: Requests,
    staged: Arc<Mutex<Vec<u32>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut events = Vec::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            Ok(()) = requests.next(&mut events) => (),
        }
        for event in events.drain(..) {
            let Event::RowsReceived { request, rows } = event else { panic!("{event:?}") };
            let keys = rows.iter().map(key);
            staged.lock().expect("nobody died").extend(keys);
            requests.answer(request);
        }
    }
}

/// The key of a row of the one table, whose only column it is.
fn key(row: &TimedMutation) -> u32 {
    let Change::Upsert(image) = &row.mutation.change else { panic!("{row:?}") };
    let Some(Cell::Text(text)) = image.cells().next() else { panic!("{row:?}") };
    std::str::from_utf8(text).expect("text").parse().expect("a number")
}
