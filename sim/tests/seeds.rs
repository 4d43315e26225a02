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
    for arguments in [&[][..], &["x"], &["1", "sideways"]] {
        assert_eq!(sim(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).output().expect("the simulator starts")
}
