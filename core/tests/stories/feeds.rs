//! What a feed may rely on, in the words of traces: each story is told, and one thing about it is asserted.
use super::Player;

/// Plays these commands. Returns the effects.
fn told(commands: &[&str]) -> Vec<String> {
    let trace: String = commands.iter().map(|command| format!("> {command}\n")).collect();
    let output = Player::default().play(&trace);
    assert!(!output.contains("< panic"), "{output}");
    output.lines().filter_map(|line| line.strip_prefix("< ")).map(str::to_owned).collect()
}

fn of<'a>(effects: &'a [String], kind: &str) -> Vec<&'a str> {
    effects.iter().map(String::as_str).filter(|effect| effect.starts_with(kind)).collect()
}

#[test]
fn w04_staging_that_fails_takes_nothing_back() {
    let effects = told(&[
        "resume 7 0@9",
        "wait 0",
        "fail 1 transient",
        "wait 100",
        "read 2 8 +plain a 1 | end",
        "done 3",
        "fail 4 transient",
        "wait 100",
    ]);
    // Each read begins where the checkpoint is and ends with the promise, whatever became of the one before.
    let reads = of(&effects, "read-staged");
    assert_eq!(reads.len(), 2, "{effects:?}");
    for read in reads {
        assert!(read.contains("after=7.0000000000 through=9.0000000000"), "{read}");
    }
    // What could not be saved is saved again, as it was, and nothing is retired before.
    let saves = of(&effects, "save-checkpoint");
    assert_eq!(saves.len(), 2, "{effects:?}");
    assert!(saves.iter().all(|save| save.ends_with(" 9.0000000000")), "{saves:?}");
    assert_eq!(of(&effects, "retire-staged"), Vec::<&str>::new());
}

#[test]
fn w06_rows_that_another_feed_has_promised_are_applied_all_the_same() {
    let effects = told(&[
        "resume 0@0",
        "resolved 1 0 9",
        "done 1",
        "read 2 end",
        // The other feed, which nobody can tell from the first.
        "rows 2 5 +parent a 1",
        "resolved 3 0 5",
        "done 4",
        "done 5",
        "resolved 4 0 12",
        "done 6",
    ]);
    assert_eq!(of(&effects, "stop"), Vec::<&str>::new(), "{effects:?}");
    assert_eq!(of(&effects, "answer").len(), 4, "nobody is turned away: {effects:?}");
    let staged = of(&effects, "stage ");
    assert_eq!(staged.len(), 1, "{effects:?}");
    assert!(
        staged[0].contains("floor=9.0000000000"),
        "the store is told that it is late: {staged:?}"
    );
    // It is read with the next promise, as if it were of the time after the first.
    let reads = of(&effects, "read-staged");
    assert!(reads[1].contains("after=9.0000000000 through=12.0000000000"), "{reads:?}");
}

#[test]
fn w43_in_immediate_mode_requests_that_wait_share_one_write() {
    let mut commands = vec!["config immediate=4".to_owned(), "resume 0@4".to_owned()];
    commands
        .extend((1..=50).map(|number| format!("rows {number} {} +plain {number} 1", 4 + number)));
    let writing = told(&commands.iter().map(String::as_str).collect::<Vec<&str>>());
    assert_eq!(of(&writing, "stage ").len(), 1, "{writing:?}");
    let first = of(&writing, "stage ")[0].split(' ').nth(1).expect("it has a number");
    commands.push(format!("done {}", first.trim_start_matches("op")));
    let written = told(&commands.iter().map(String::as_str).collect::<Vec<&str>>());
    let writes = of(&written, "stage ");
    assert_eq!(writes.len(), 2, "{written:?}");
    assert_eq!(writes[1].matches("+plain").count(), 49, "all that wait are one write: {writes:?}");
    assert_eq!(of(&written, "answer").len(), 1, "the others are not durable yet");
}

#[test]
fn w45_rows_that_fail_rest_and_are_not_read_again() {
    let mut commands = vec!["resume 0@0", "resolved 1 0 9", "done 1", "read 2 8 +plain a 1 | end"];
    for failure in ["fail 3 transient", "fail 4 transient", "fail 5 transient"] {
        commands.extend([failure, "wait 1", "wait 2000"]);
    }
    let effects = told(&commands);
    assert_eq!(of(&effects, "read-staged").len(), 1, "{effects:?}");
    // Never at once: each of them comes after a pause.
    assert_eq!(of(&effects, "apply").len(), 4, "{effects:?}");
    let at_once = told(&commands[..6]);
    assert_eq!(of(&at_once, "apply").len(), 1, "{at_once:?}");
}

#[test]
fn a05_a_partition_that_is_added_later_is_waited_for() {
    // The first one promised up to 9 in an earlier run, when it was the only one.
    let alone = told(&["resume 5 0@9", "wait 0"]);
    assert_eq!(of(&alone, "read-staged").len(), 1, "{alone:?}");
    let mut commands = vec!["resume 5 0@9 1@0", "rows 1 7 +plain a 1", "done 1", "resolved 2 0 12"];
    commands.push("done 2");
    let effects = told(&commands);
    assert_eq!(of(&effects, "read-staged"), Vec::<&str>::new(), "the new one has not spoken");
    commands.extend(["resolved 3 1 8", "done 3"]);
    let effects = told(&commands);
    let read = of(&effects, "read-staged");
    assert!(read[0].contains("after=5.0000000000 through=8.0000000000"), "{effects:?}");
}
