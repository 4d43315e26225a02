//! The program as a whole. `cargo test` builds it for this test, with the same crates as all other tests, and
//! the tests on real servers use it.
use std::process::Command;

#[test]
fn the_program_says_what_it_is_built_from() {
    let output = Command::new(env!("CARGO_BIN_EXE_replicator")).arg("version").output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(concat!("replicator ", env!("CARGO_PKG_VERSION"))));
    assert!(lines.any(|line| line.starts_with("tokio ")), "{text}");
}
