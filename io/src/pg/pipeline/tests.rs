//! Against a pretend server that answers from a script.
use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Call, CallError, Pipeline, rows_of};
use crate::pg::tls::PgStream;
use crate::pg::wire::{Wire, WireError};

fn pipeline(statements_max: usize) -> (Pipeline<DuplexStream>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    (Pipeline::new(Wire::new(PgStream::Plain(ours)), statements_max), theirs)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(tag);
    bytes.put_u32(u32::try_from(body.len()).unwrap() + 4);
    bytes.put_slice(body);
    bytes.to_vec()
}

/// A script: `p` ParseComplete, `b` BindComplete, `c` CommandComplete of five rows, `g` CopyInResponse,
/// `x` CloseComplete, `e` a refusal, `f` a fatal one, `z` ReadyForQuery.
fn script(text: &str) -> Vec<u8> {
    let refusal = |severity: &str| format!("V{severity}\0C23505\0Mno\0n{}\0\0", "some_key");
    text.bytes()
        .flat_map(|step| match step {
            b'p' => message(b'1', b""),
            b'b' => message(b'2', b""),
            b'c' => message(b'C', b"INSERT 0 5\0"),
            b'g' => message(b'G', b"\0\0\0"),
            b'x' => message(b'3', b""),
            b'e' => message(b'E', refusal("ERROR").as_bytes()),
            b'f' => message(b'E', refusal("FATAL").as_bytes()),
            b'z' => message(b'Z', b"I"),
            other => panic!("unknown step {other}"),
        })
        .collect()
}

/// The tags of what the server has got so far.
async fn got(server: &mut DuplexStream) -> String {
    let mut bytes = BytesMut::with_capacity(1 << 20);
    server.read_buf(&mut bytes).await.unwrap();
    let mut tags = String::new();
    let mut rest = &bytes[..];
    while let [tag, a, b, c, d, after @ ..] = rest {
        tags.push(char::from(*tag));
        let len = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        rest = &after[len - 4..];
    }
    tags
}

#[tokio::test]
async fn a_statement_is_parsed_once_and_everything_has_one_sync() {
    let (mut pipeline, mut server) = pipeline(10);
    let one = 7_i32.to_be_bytes();
    let calls = [
        Call::plain("BEGIN"),
        Call { sql: "INSERT", params: vec![(23, Some(&one)), (25, None)], rows: None },
        Call { sql: "COPY", params: Vec::new(), rows: Some(b"1\n") },
        Call::plain("COMMIT"),
    ];
    server.write_all(&script("pbcpbcpbgcpbcz")).await.unwrap();
    assert_eq!(pipeline.run(&calls).await.unwrap(), [5, 5, 5, 5]);
    assert_eq!(got(&mut server).await, "PBEPBEPBEdcPBES");

    server.write_all(&script("bcbcbgcbcz")).await.unwrap();
    assert_eq!(pipeline.run(&calls).await.unwrap(), [5, 5, 5, 5]);
    assert_eq!(got(&mut server).await, "BEBEBEdcBES");
}

#[tokio::test]
async fn a_refusal_names_the_call_and_leaves_the_session_good() {
    let (mut pipeline, mut server) = pipeline(10);
    let calls = [Call::plain("BEGIN"), Call::plain("INSERT"), Call::plain("COMMIT")];
    server.write_all(&script("pbcpbez")).await.unwrap();
    let CallError { at, sent, reason } = pipeline.run(&calls).await.unwrap_err();
    assert_eq!((at, sent), (1, 3));
    let WireError::Server(error) = reason else { panic!("{reason}") };
    assert_eq!((error.code.as_str(), error.constraint.as_deref()), ("23505", Some("some_key")));
    assert!(pipeline.is_usable());
    assert_eq!(got(&mut server).await, "PBEPBEPBES");

    // Nobody knows whether the server has parsed what it did not carry out.
    server.write_all(&script("xxbcpbcpbcz")).await.unwrap();
    assert_eq!(pipeline.run(&calls).await.unwrap(), [5, 5, 5]);
    assert_eq!(got(&mut server).await, "CCBEPBEPBES");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_not_used_again() {
    for (answer, server_says_why) in [("pbcf", true), ("pbc", false)] {
        let (mut pipeline, mut server) = pipeline(10);
        server.write_all(&script(answer)).await.unwrap();
        server.shutdown().await.unwrap();
        let calls = [Call::plain("BEGIN"), Call::plain("COMMIT")];
        let CallError { at, reason, .. } = pipeline.run(&calls).await.unwrap_err();
        assert_eq!(at, 1);
        assert_eq!(matches!(reason, WireError::Server(_)), server_says_why, "{reason}");
        assert!(!pipeline.is_usable());
        assert!(pipeline.roll_back("ROLLBACK").await.is_err());
    }
}

#[tokio::test]
async fn answers_out_of_order_are_an_error() {
    for answer in ["x", "pbcc", "z", "pbcg"] {
        let (mut pipeline, mut server) = pipeline(10);
        server.write_all(&script(answer)).await.unwrap();
        let error = pipeline.run(&[Call::plain("BEGIN")]).await.unwrap_err();
        assert!(matches!(error.reason, WireError::Protocol { .. }), "{answer}: {error:?}");
        assert!(!pipeline.is_usable(), "{answer}");
    }
}

#[tokio::test]
async fn statements_that_are_not_used_are_forgotten() {
    let (mut pipeline, mut server) = pipeline(2);
    server.write_all(&script("pbcpbcpbcz")).await.unwrap();
    let calls = ["A", "B", "C"].map(Call::plain);
    pipeline.run(&calls).await.unwrap();
    assert_eq!(got(&mut server).await, "PBEPBEPBES");
    server.write_all(&script("xbcpbcz")).await.unwrap();
    pipeline.run(&["C", "A"].map(Call::plain)).await.unwrap();
    assert_eq!(got(&mut server).await, "CBEPBES");
}

#[tokio::test]
async fn a_long_copy_goes_in_pieces_and_answers_are_read_meanwhile() {
    let (ours, mut server) = tokio::io::duplex(1024);
    let mut pipeline = Pipeline::new(Wire::new(PgStream::Plain(ours)), 10);
    let rows = vec![b'x'; 3 * super::CHUNK_BYTES + 1];
    let calls = [Call { sql: "COPY", params: Vec::new(), rows: Some(&rows) }];
    let answering = async {
        // More than fits between us, before anything was read.
        let notice = message(b'N', &[b'M'; 4096]);
        server.write_all(&notice).await.unwrap();
        let mut seen = 0;
        let mut buffer = vec![0; 4096];
        while seen < rows.len() {
            seen += server.read(&mut buffer).await.unwrap();
        }
        server.write_all(&script("pbgcz")).await.unwrap();
        server
    };
    let (outcome, _server) = tokio::join!(pipeline.run(&calls), answering);
    assert_eq!(outcome.unwrap(), [5]);
}

#[tokio::test]
async fn an_idle_server_that_hangs_up_is_noticed() {
    for says in ["", "f"] {
        let (mut pipeline, mut server) = pipeline(10);
        assert!(pipeline.is_usable());
        server.write_all(&message(b'N', b"MEverything is fine\0\0")).await.unwrap();
        assert!(pipeline.is_usable(), "a notice is no goodbye");
        server.write_all(&script(says)).await.unwrap();
        drop(server);
        assert!(!pipeline.is_usable(), "{says}");
    }
}

#[test]
fn rows_are_counted_by_the_tag() {
    for (tag, rows) in [("INSERT 0 5", 5), ("UPDATE 7", 7), ("COPY 10000", 10_000), ("BEGIN", 0)] {
        assert_eq!(rows_of(format!("{tag}\0").as_bytes()), rows);
    }
}
