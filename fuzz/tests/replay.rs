//! Replays every corpus file, so that no input that was ever met breaks a decoder again.
use std::fs;
use std::path::PathBuf;

use replicator_fuzz::{pgoutput, pgoutput_corpus};

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn every_pgoutput_input_is_taken_or_refused() {
    let mut files = 0;
    for entry in fs::read_dir(corpus("pgoutput")).unwrap() {
        pgoutput(&fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= pgoutput_corpus().len(), "only {files} files in the corpus");
}

#[test]
fn hand_made_inputs_are_what_the_encoder_writes() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    for (name, input) in pgoutput_corpus() {
        let path = corpus("pgoutput").join(name);
        if update {
            fs::write(&path, &input).unwrap();
        }
        let hint = "UPDATE_CORPUS=1 writes it again";
        assert!(fs::read(&path).is_ok_and(|file| file == input), "{name} differs; {hint}");
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

#[test]
fn hand_made_inputs_reach_what_they_are_named_after() {
    for (name, input) in pgoutput_corpus() {
        let events = pgoutput(&input);
        match name {
            "insert" | "stream-abort-savepoint" | "keepalive" => assert_eq!(events, 2, "{name}"),
            "stream-commit" | "keepalive-inside-a-transaction" => assert_eq!(events, 4, "{name}"),
            "stream-abort" | "stream-too-large" | "cut-short" => assert_eq!(events, 0, "{name}"),
            _ => (),
        }
    }
}
