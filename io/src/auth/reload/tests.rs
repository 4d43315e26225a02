//! Keys that come and go, and sources that fail, in simulated time.
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::HeaderMap;
use replicator_core::model::ident::SchemaName;
use replicator_core::model::time::WallTime;
use tokio::sync::watch;

use super::super::fixtures;
use super::super::{Claims, JwtGate, Material, PublicKeyText, SigningKey};
use super::{KeySource, KeySourceError, Reloader};
use crate::source::changefeed::webhook::Gate as _;

const ID: &str = "the token";

/// Says one thing after the other, and the last one for ever.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<VecDeque<Said>>>);

#[derive(Clone, Debug)]
enum Said {
    Material(Material),
    Fails,
    Hangs,
}

impl Script {
    fn say(&self, said: Said) {
        self.0.lock().unwrap().push_back(said);
    }
}

impl KeySource for Script {
    fn hint(&self) -> String {
        "put it here".to_owned()
    }

    async fn load(&mut self) -> Result<Material, KeySourceError> {
        let said = {
            let mut script = self.0.lock().unwrap();
            let first = script.front().unwrap().clone();
            if 1 < script.len() {
                script.pop_front();
            }
            first
        };
        match said {
            Said::Material(material) => Ok(material),
            Said::Fails => Err(KeySourceError::Disk {
                path: "there".into(),
                source: ErrorKind::PermissionDenied.into(),
            }),
            Said::Hangs => std::future::pending().await,
        }
    }
}

fn keys(texts: &[&str]) -> Said {
    let text = |text: &&str| PublicKeyText { place: "here".to_owned(), text: (*text).into() };
    Said::Material(Material { keys: texts.iter().map(text).collect(), ..Material::default() })
}

fn revoked() -> Said {
    let Said::Material(mut material) = keys(&[fixtures::P256_PUBLIC]) else { unreachable!() };
    material.revoked.insert(ID.to_owned());
    Said::Material(material)
}

fn wall() -> WallTime {
    WallTime { micros: 7 }
}

fn admits(gate: &JwtGate) -> bool {
    let key = SigningKey::from_pem(fixtures::P256_PKCS8.as_bytes()).unwrap();
    let claims = Claims::new(ID.to_owned(), vec![vec!["*".to_owned()]]);
    let query = format!("access_token={}", key.sign(&claims).unwrap());
    let schema = SchemaName { database: None, schema: "s".to_owned() };
    gate.admits(&HeaderMap::new(), Some(&query), &schema)
}

/// A gate that is kept up to date while `story` runs. The story can ask for the keys to be read.
async fn while_reloading(
    script: Script,
    story: impl AsyncFnOnce(&JwtGate, &watch::Sender<()>),
) -> Vec<String> {
    let (gate, reloader) = Reloader::begin(script, wall).await;
    let (ask, asked) = watch::channel(());
    let (stop, stopped) = watch::channel(false);
    let told = reloader.told.clone();
    let told_by = async {
        story(&gate, &ask).await;
        stop.send_replace(true);
    };
    tokio::join!(reloader.run(asked, stopped), told_by);
    told
}

/// Longer than reading may take, shorter than a minute.
const A_WHILE: Duration = Duration::from_secs(31);

#[tokio::test(start_paused = true)]
async fn a12_a_token_is_revoked_within_a_minute_and_at_once_when_asked() {
    let script = Script::default();
    script.say(keys(&[fixtures::P256_PUBLIC]));
    while_reloading(script.clone(), async |gate, ask| {
        assert!(admits(gate));
        assert_eq!(gate.keyring().read_at(), Some(WallTime { micros: 7 }));
        script.say(revoked());
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(admits(gate));
        // The first of the two is said at the first minute, the other at the second.
        tokio::time::sleep(Duration::from_secs(62)).await;
        assert!(!admits(gate));
        script.say(keys(&[fixtures::P256_PUBLIC]));
        script.say(revoked());
        ask.send_replace(());
        tokio::time::sleep(Duration::from_millis(1)).await;
        ask.send_replace(());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(admits(gate));
        ask.send_replace(());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!admits(gate));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_read_last_stays_in_force_when_reading_fails() {
    let script = Script::default();
    script.say(revoked());
    script.say(Said::Fails);
    while_reloading(script.clone(), async |gate, ask| {
        assert_eq!((gate.keyring().keys(), gate.keyring().revoked()), (1, 1));
        for said in [Said::Fails, Said::Hangs, Said::Hangs] {
            script.say(said);
            ask.send_replace(());
            tokio::time::sleep(A_WHILE).await;
            assert_eq!((gate.keyring().keys(), gate.keyring().revoked()), (1, 1));
            assert!(!admits(gate));
        }
        script.say(keys(&[fixtures::P256_PUBLIC]));
        for _ in 0..2 {
            ask.send_replace(());
            tokio::time::sleep(A_WHILE).await;
        }
        assert!(admits(gate));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a12_a_bad_key_does_not_touch_the_others() {
    let script = Script::default();
    script.say(keys(&["no key", fixtures::P521_PUBLIC, fixtures::P256_PUBLIC]));
    let told = while_reloading(script, async |gate, _| assert!(admits(gate))).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("here is ignored: it has no block PUBLIC KEY"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn without_keys_the_operator_is_told_how_to_add_one() {
    for said in [keys(&[]), Said::Fails, Said::Hangs] {
        let script = Script::default();
        script.say(said);
        let told = while_reloading(script, async |gate, _| assert!(!admits(gate))).await;
        let last = told.last().unwrap();
        assert!(last.contains("every request is refused; put it here"), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_keys_are_told_in_part() {
    let script = Script::default();
    script.say(keys(&[fixtures::P256_PUBLIC; 100]));
    let told = while_reloading(script, async |gate, _| {
        assert_eq!(gate.keyring().keys(), 64);
        assert!(admits(gate));
    })
    .await;
    assert_eq!(told.len(), 17, "{told:?}");
    assert_eq!(told[16], "20 more keys are ignored");
}
