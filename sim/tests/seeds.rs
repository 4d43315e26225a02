//! The binary: a seed ends well, and ends the same way twice.
use std::process::{Command, Output};

#[test]
fn a_seed_ends_well_and_repeats() {
    for seed in 1..=5 {
        let first = sim(&[&seed.to_string()]);
        let story = String::from_utf8_lossy(&first.stdout).into_owned();
        assert!(first.status.success(), "seed {seed}:\n{story}");
        assert_eq!(story.matches("everything arrived").count(), 2, "one world of each kind");
        let second = sim(&[&seed.to_string()]);
        assert_eq!(first.stdout, second.stdout, "seed {seed} is not deterministic");
    }
}

#[test]
fn nonsense_is_refused() {
    let nonsense = [
        &[][..],
        &["x"],
        &["1", "sideways"],
        &["1", "--scenario", "sideways"],
        &["1", "--faults", "rain"],
        &["1", "--words", "1"],
        &["sweep", "1"],
        &["--shrink"],
    ];
    for arguments in nonsense {
        assert_eq!(sim(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_story_can_be_given_in_full_and_written_to_a_file() {
    let file = std::env::temp_dir().join(format!("sim-trace-{}", std::process::id()));
    let path = file.to_str().expect("a plain path");
    let story = ["7", "--scenario", "ordered", "--faults", "crash,usurp", "--words", "5,6,7"];
    let output = sim(&[&story[..], &["--trace", path, "--shrink"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("3 actions: everything arrived"), "{text}");
    assert!(text.contains(&format!("-- {}", story.join(" "))), "{text}");
    let trace = std::fs::read_to_string(&file).expect("the trace is written");
    std::fs::remove_file(&file).expect("the trace is there");
    assert!(trace.starts_with("# "), "{trace}");
}

#[test]
fn a_sweep_that_is_too_short_says_what_it_did_not_reach() {
    let output = sim(&["sweep", "--seconds", "0"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("never reached"), "{text}");
    assert!(text.contains("worlds/s"), "{text}");
}

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).output().expect("the simulator starts")
}

#[test]
fn a_world_with_sockets_can_be_told_what_to_leave_out() {
    let story = ["3", "--scenario", "pg_forward", "--faults", "kill-replicator,hold"];
    let left_out = ["--omit-faults", "0-2,5", "--omit-commits", "1"];
    let output = sim(&[&story[..], &left_out, &["--shrink"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("everything arrived"), "{text}");
    let output = sim(&[&story[..], &["--omit-faults", "0-"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let output = sim(&["3", "--scenario", "pg_forward", "--faults", "rain"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("kill-replicator"),
        "names those there are"
    );
}
