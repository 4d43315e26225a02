//! Replays every corpus file, so that no input that was ever met breaks a decoder again.
use std::fs;
use std::path::PathBuf;

use replicator_fuzz::{check, pgoutput, targets};

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn every_input_is_taken_or_refused() {
    for target in targets() {
        let mut files = 0;
        for entry in fs::read_dir(corpus(target.name)).unwrap() {
            (target.check)(&fs::read(entry.unwrap().path()).unwrap());
            files += 1;
        }
        let made = (target.made)().len();
        assert!(files >= made, "only {files} files in the corpus of {}", target.name);
    }
}

#[test]
fn every_check_has_a_fuzz_target_and_the_three_inputs_that_each_must_have() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for target in targets() {
        let name = target.name;
        assert!(root.join(format!("fuzz_targets/{name}.rs")).exists(), "{name} is not fuzzed");
        let made = (target.made)();
        for wanted in ["empty", "cut-short", "largest"] {
            assert!(made.iter().any(|(made, _)| *made == wanted), "{name} has no {wanted}");
        }
    }
    let there = fs::read_dir(root.join("fuzz_targets")).unwrap().count();
    assert_eq!(there, targets().len(), "a fuzz target without a check");
}

#[test]
fn hand_made_inputs_are_what_is_in_the_corpus() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    for target in targets() {
        for (name, input) in (target.made)() {
            let path = corpus(target.name).join(name);
            if update {
                fs::write(&path, &input).unwrap();
            }
            let hint = "UPDATE_CORPUS=1 writes it again";
            let same = fs::read(&path).is_ok_and(|file| file == input);
            assert!(same, "{name} of {} differs; {hint}", target.name);
        }
    }
}

#[test]
fn what_real_servers_sent_is_read_to_its_end() {
    // Both end with a change of a key under which a large value was not sent. Before it come 18
    // transactions, each read twice, some of them in pieces; with protocol 2 some more empty ones.
    for (name, events) in [("real-postgresql-18-v1", 56), ("real-postgresql-18-v2", 60)] {
        let input = fs::read(corpus("pgoutput").join(name)).unwrap();
        assert_eq!(pgoutput(&input), events, "{name}");
    }
}

/// Hand-made inputs, and what comes out of them.
const REACHED: &[(&str, &str, usize)] = &[
    ("pgoutput", "insert", 2),
    ("pgoutput", "stream-abort-savepoint", 2),
    ("pgoutput", "keepalive", 2),
    ("pgoutput", "stream-commit", 4),
    ("pgoutput", "keepalive-inside-a-transaction", 4),
    ("pgoutput", "stream-abort", 0),
    ("pgoutput", "stream-too-large", 0),
    ("pgoutput", "cut-short", 0),
    ("binlog", "usual", 4),
    ("binlog", "tagged", 4),
    ("binlog", "statement", 3),
    ("binlog", "rollback", 4),
    ("binlog", "others", 11),
    ("binlog", "before-the-format", 4),
    ("binlog", "compressed", 3),
    // Prepared, and a transaction of one row.
    ("binlog", "xa-commit", 5),
    ("binlog", "xa-rollback", 3),
    ("binlog", "xa-one-phase", 4),
    ("binlog", "xa-waits", 5),
    ("binlog", "mariadb", 5),
    ("binlog", "mariadb-packed", 9),
    ("binlog", "mariadb-xa", 5),
    ("binlog", "largest", 342),
    // All of both, and what comes before a row that is too large here.
    ("binlog", "real-mysql-9.7", 91),
    ("binlog", "real-mariadb-11.8", 169),
    ("binlog", "real-mysql-9.7-packed", 23),
    ("binlog", "real-mariadb-11.8-packed", 24),
    ("binlog_rows", "write", 2),
    ("binlog_rows", "update", 1),
    ("binlog_rows", "delete", 1),
    ("binlog_rows", "minimal", 1),
    ("binlog_rows", "partial", 1),
    ("binlog_rows", "cut-short", 1),
    ("binlog_rows", "largest", 100),
    ("binlog_rows", "real-mysql-9.7", 81),
    ("binlog_rows", "real-mysql-9.7-images", 21),
    ("binlog_rows", "real-mariadb-11.8", 27),
    ("changefeed", "rows", 5),
    ("changefeed", "rows-cockroachdb", 5),
    ("changefeed", "rows-oracle", 1),
    ("changefeed", "query", 3),
    ("changefeed", "lines", 4),
    ("changefeed", "query-lines", 2),
    ("changefeed", "enriched", 1),
    ("changefeed", "promise", 1),
    ("changefeed", "promise-bare", 1),
    ("changefeed", "largest", 40),
    ("conninfo", "url", 1),
    ("conninfo", "url-hosts", 3),
    ("conninfo", "keyword", 2),
    ("conninfo", "largest", 200),
    ("duration", "all-units", 1),
    ("gtid", "usual", 1),
    ("gtid", "tags", 1),
    ("gtid", "one", 2),
    ("gtid", "uuid", 1),
    ("gtid", "mariadb", 1),
    ("gtid", "binary", 1),
    ("gtid", "binary-untagged", 1),
    ("gtid", "largest", 1),
    ("jwt", "header", 1),
    ("jwt", "token", 1),
    ("jwt", "query", 1),
    ("jwt", "token-in-a-query", 1),
    ("jwt", "largest", 0),
    ("mysql_conninfo", "url", 1),
    ("mysql_conninfo", "protocol", 1),
    ("mysql_conninfo", "socket", 1),
    ("mysql_conninfo", "brackets", 1),
    ("mysql_conninfo", "identity", 1),
    ("mysql_conninfo", "largest", 1),
    ("mysql_session", "usual", 5),
    ("mysql_session", "mariadb", 5),
    ("mysql_session", "fast-sha2", 1),
    ("mysql_session", "switch", 1),
    ("mysql_session", "refused", 0),
    ("mysql_session", "largest", 203),
    ("name", "quoted", 3),
    ("packed", "gzip", 2_250),
    ("packed", "gzip-members", 4_500),
    ("packed", "gzip-to-be-packed", 2_250),
    ("packed", "zstd", 2_250),
    ("packed", "zstd-frames", 4_500),
    ("packed", "zstd-to-be-packed", 2_250),
    ("packed", "largest", 45_000),
    ("position", "usual", 1),
    ("position", "sortable-hlc", 1),
    // The beginning, a machine, six events with answers, the end.
    ("record", "usual", 17),
    ("size", "binary", 1),
    // Login, two questions, the start, and frames.
    ("server", "stream", 6),
    ("server", "largest", 6),
    ("server", "stream-refused", 5),
    ("server", "cut-short", 1),
    ("server", "login-md5", 1),
    // Login and the answers to twice four calls.
    ("server", "pipeline", 9),
    ("server", "pipeline-refused", 2),
    ("staged", "value", 1),
    ("staged", "layout", 1),
    ("staged", "table", 1),
    ("staged", "largest", 1),
    ("staged", "refused-version", 0),
    ("staged", "refused-kind", 0),
    ("values", "usual", 2),
    ("values", "odd", 2),
    ("values", "binary", 1),
    ("values", "too-large-number", 1),
    // Two kinds of targets have schemas of two parts, two of one.
    ("webhook_path", "webhook", 4),
    ("webhook_path", "webhook-one-part", 2),
    ("webhook_path", "query", 2),
    ("webhook_path", "file", 4),
    ("webhook_path", "promise", 4),
    ("webhook_path", "slash-in-a-name", 2),
    ("webhook_path", "quoted", 2),
    ("webhook_path", "largest", 4),
    ("world", "trickle", 60),
];

#[test]
fn hand_made_inputs_reach_what_they_are_named_after() {
    for (target, name, count) in REACHED {
        let input = fs::read(corpus(target).join(name)).unwrap();
        assert_eq!(check(target, &input), *count, "{name} of {target}");
    }
    for target in targets() {
        for (name, input) in (target.made)() {
            let refused = name == "empty" || name.starts_with("refused") && target.name != "server";
            if refused && target.name != "pgoutput" {
                assert_eq!((target.check)(&input), 0, "{name} of {}", target.name);
            }
        }
    }
}
