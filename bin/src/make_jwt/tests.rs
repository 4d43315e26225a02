//! The quickstart of the documents, with the real openssl, from the key to the gate.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use replicator_core::model::ident::SchemaName;
use replicator_core::model::time::WallTime;
use replicator_io::auth::{FileKeys, KEYS_FOLDER, Reloader};
use replicator_io::disk::StdDisk;
use replicator_io::source::changefeed::webhook::Gate as _;

use super::{NoToken, make_jwt};
use crate::cli::{Command as Parsed, parse};

/// A folder of its own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("make-jwt-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .output()
            .unwrap();
        assert!(done.status.success(), "openssl {arguments}: {done:?}");
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn run(arguments: &[&str]) -> Result<String, NoToken> {
    let words = ["replicator", "make-jwt"].into_iter().chain(arguments.iter().copied());
    let cli = parse(words.map(Into::into)).unwrap();
    let Parsed::MakeJwt(flags) = cli.command else { panic!("another command") };
    make_jwt(&flags)
}

fn wall() -> WallTime {
    WallTime { micros: 1_700_000_000_000_000 }
}

/// Whether a replicator with this folder as `--dataDir` takes rows of a schema with this token.
async fn admits(folder: &Path, token: &str, database: &str, schema: &str) -> bool {
    let keys = FileKeys::new(StdDisk, folder.to_owned());
    let (gate, _reloader) = Reloader::begin(keys, wall).await;
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    headers.insert(AUTHORIZATION, value);
    let schema = SchemaName { database: Some(database.to_owned()), schema: schema.to_owned() };
    gate.admits(&headers, None, &schema)
}

#[tokio::test]
async fn the_quickstart_leads_to_a_token_that_is_taken() {
    let folder = Folder::new("quickstart");
    folder.openssl("ecparam -out ec.key -genkey -name prime256v1");
    folder.openssl("ec -in ec.key -pubout -out ec.pub");
    fs::create_dir_all(folder.0.join(KEYS_FOLDER)).unwrap();
    fs::copy(folder.0.join("ec.pub"), folder.0.join(KEYS_FOLDER).join("ec.pem")).unwrap();
    let (key, out) = (folder.path("ec.key"), folder.path("out.jwt"));
    // A file that was there, open to everybody.
    fs::write(&out, "older and longer ".repeat(100)).unwrap();
    assert_eq!(run(&["-k", &key, "-a", "ycsb.public", "-o", &out]).unwrap(), "");
    let token = fs::read_to_string(&out).unwrap();
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(admits(&folder.0, &token, "ycsb", "public").await);
    assert!(!admits(&folder.0, &token, "ycsb", "other").await);
    assert!(!admits(&folder.0, &token, "other", "public").await);
    // To standard output, and for several schemas.
    let printed = run(&["-k", &key, "--allow", "a.b", "--allow", "\"C\".*"]).unwrap();
    let printed = printed.strip_suffix('\n').unwrap();
    assert!(admits(&folder.0, printed, "a", "b").await);
    assert!(admits(&folder.0, printed, "C", "anything").await);
    assert!(!admits(&folder.0, printed, "ycsb", "public").await);
}

#[tokio::test]
async fn keys_of_every_form_of_openssl_sign() {
    let folder = Folder::new("forms");
    fs::create_dir_all(folder.0.join(KEYS_FOLDER)).unwrap();
    folder.openssl("genrsa -out rsa.key 2048");
    folder.openssl("rsa -in rsa.key -traditional -out pkcs1.key");
    folder.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key");
    folder.openssl(&format!("pkey -in rsa.key -pubout -out {KEYS_FOLDER}/rsa.pem"));
    folder.openssl(&format!("pkey -in p384.key -pubout -out {KEYS_FOLDER}/p384.pem"));
    for key in ["rsa.key", "pkcs1.key", "p384.key"] {
        let token = run(&["-k", &folder.path(key), "-a", "app.public"]).unwrap();
        assert!(admits(&folder.0, token.trim_end(), "app", "public").await, "{key}");
    }
}

#[test]
fn a_claim_is_as_in_the_documents() {
    let text = run(&["-a", "database.schema", "--claim"]).unwrap();
    let id = text.split("\"jti\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(id.len(), 36, "{text}");
    let expected = format!(
        r#"{{
  "iss": "replicator",
  "jti": "{id}",
  "https://github.com/cockroachdb/replicator": {{
    "schemas": [
      [
        "database",
        "schema"
      ]
    ]
  }}
}}
"#
    );
    assert_eq!(text, expected);
}

#[test]
fn what_is_missing_or_wrong_is_said() {
    let folder = Folder::new("wrong");
    fs::write(folder.0.join("no.key"), "no key").unwrap();
    let (key, absent) = (folder.path("no.key"), folder.path("absent"));
    for (arguments, text) in [
        (&[][..], "no schemas specified"),
        (&["--claim"], "no schemas specified"),
        (&["-a", "a.b"], "no private key specified"),
        (&["-a", "a.b", "--claim=false"], "no private key specified"),
        (&["-a", "a..b", "--claim"], "--allow: cannot read \"a..b\" as a name"),
        (&["-a", "a.b.c", "--claim"], "names more than a database and a schema"),
    ] {
        match run(arguments) {
            Err(NoToken::Usage(told)) => assert!(told.contains(text), "{told}"),
            other => panic!("{arguments:?}: {other:?}"),
        }
    }
    for (path, text) in [(&key, "did not find expected PEM data"), (&absent, "could not read")] {
        match run(&["-a", "a.b", "-k", path]) {
            Err(NoToken::Failed(error)) => {
                assert!(format!("{error:#}").contains(text), "{error:#}");
            }
            other => panic!("{other:?}"),
        }
    }
}
