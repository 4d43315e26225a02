//! The command line against the documented tables.
use std::ffi::OsString;

use clap::CommandFactory as _;

use super::inert::{Inerts, pglogical, start};
use super::{Cli, Command, PgLogicalFlags, Refusal, StartFlags, parse};

/// Every documented flag and its default, by section of the documents. "-" is none.
const DOCUMENTED: &str = "
    sourceConn -  targetConn -  targetSchema -  stagingConn -  stagingSchema _replicator.public
    stagingCreateSchema false  sourcePDBConn -  sourceSchema -
    slotName replicator  publicationName -  standbyTimeout 5s
    defaultGTIDSet -  fetchMetadata false  replicationProcessID 10  scn -  backfillFromSCN -
    scnWindowSize 3250  oracle-application-users -
    bindAddr :26258  tlsCertificate -  tlsPrivateKey -  tlsSelfSigned false
    disableAuthentication false  httpResponseTimeout 2m0s  healthCheckTimeout 5s
    ndjsonBufferSize 65536  assumeIdempotent false  bestEffortOnly false  bestEffortWindow 0s
    immediate false  limitLookahead 0  enableCheckpointStream false  discard false  discardDelay 0s
    applyTimeout 30s  parallelism 16  flushSize 1000  flushPeriod 1s  timestampLimit 1000
    collapseMutations true  enableParallelApplies false  targetApplyQueueSize -
    quiescentPeriod 10s  maxRetries 10  retryInitialBackoff 25ms  retryMaxBackoff 2s
    retryMultiplier 2  dlqTableName replicator_dlq  schemaRefresh 1m0s  userscript -
    scanSize 10000  retireOffset 24h0m0s  stageMarkAppliedLimit 100000
    stageSanityCheckPeriod 10m0s  stageSanityCheckWindow 1h0m0s  stageUnappliedPeriod 1m0s
    stageDisableCreateTableReaderIndex false
    stagingMaxPoolSize 128  targetMaxPoolSize 128  stagingIdleTime 1m0s  targetIdleTime 1m0s
    stagingMaxLifetime 5m0s  targetMaxLifetime 5m0s  stagingJitterTime 15s  targetJitterTime 15s
    targetStatementCacheSize 128
    gracePeriod 30s  taskGracePeriod 1m0s  logDestination -  logFormat text  verbose 0
    metricsAddr -  dataDir replicator-data  metricsSnapshotPeriod 0s
    metricsSnapshotCompression gzip  metricsSnapshotRetentionTime 168h
    metricsSnapshotRetentionSize -
";

/// Flags of older versions, and other spellings.
const OLD: [&str; 8] = [
    "copierChannel",
    "stageCopierChannelSize",
    "disableCheckpointStream",
    "stageMode",
    "checkpointQueueBufferSize",
    "schema-filter",
    "enableToastedColumns",
    "target-apply-queue-size",
];

fn words(line: &str) -> impl Iterator<Item = OsString> {
    line.split_whitespace().map(OsString::from)
}

fn parsed(line: &str) -> Cli {
    match parse(words(line)) {
        Ok(cli) => cli,
        Err(refusal) => panic!("{line}: {}", refusal.text),
    }
}

fn flags(line: &str) -> Box<PgLogicalFlags> {
    match parsed(&format!("replicator pglogical {line}")).command {
        Command::PgLogical(flags) => flags,
        Command::MakeJwt(_) | Command::MyLogical(_) | Command::Start(_) | Command::Version => {
            panic!("another command")
        }
    }
}

fn start_flags(line: &str) -> Box<StartFlags> {
    match parsed(&format!("replicator start {line}")).command {
        Command::Start(flags) => flags,
        Command::MakeJwt(_) | Command::MyLogical(_) | Command::PgLogical(_) | Command::Version => {
            panic!("another command")
        }
    }
}

fn refused(line: &str) -> Refusal {
    match parse(words(line)) {
        Ok(cli) => panic!("{line} was taken: {cli:?}"),
        Err(refusal) => refusal,
    }
}

#[test]
fn every_documented_flag_has_its_documented_default() {
    check_flags("pglogical", &["truncate", "recordTrace", "recordTraceValues", "recordTraceMax"]);
    check_flags(
        "mylogical",
        &["truncate", "zeroDates", "recordTrace", "recordTraceValues", "recordTraceMax"],
    );
    check_flags("start", &["targetProgressTable", "forgetFeeds"]);
}

/// Against the table. `more` are of this command alone.
fn check_flags(command: &str, more: &[&str]) {
    let mut root = Cli::command();
    root.build();
    let command = root.find_subcommand(command).unwrap();
    let mut words = DOCUMENTED.split_whitespace();
    let mut names = vec!["help", "memoryLimit", "onReject", "dlqMaxPercent"];
    names.extend(more);
    for flag in command.get_arguments().filter(|flag| flag.is_hide_set()) {
        let name = flag.get_long().unwrap();
        assert!(name.starts_with("recordTrace") || OLD.contains(&name), "--{name} is hidden");
        assert!(flag.get_help().is_some(), "--{name}");
    }
    while let (Some(name), Some(default)) = (words.next(), words.next()) {
        let flag = command.get_arguments().find(|arg| arg.get_long() == Some(name));
        let flag = flag.unwrap_or_else(|| panic!("--{name} is missing"));
        let default = if default == "-" { "" } else { default };
        let defaults = flag.get_default_values().join("".as_ref());
        assert_eq!(defaults, default, "--{name}");
        assert!(flag.get_help().is_some() && flag.get_help_heading().is_some(), "--{name}");
        names.push(name);
    }
    for flag in command.get_arguments() {
        let name = flag.get_long().unwrap();
        assert!(names.contains(&name) || OLD.contains(&name), "--{name} is not in the table");
    }
}

#[test]
fn documented_command_lines_are_taken() {
    for line in [
        "--sourceConn s --targetConn t --targetSchema defaultdb.migration_schema --slotName molt_slot \
         --publicationName molt_fetch --stagingSchema defaultdb._replicator --stagingCreateSchema",
        "--sourceConn s --targetConn t --slotName molt_slot --stagingSchema _replicator --verbose",
        "--retryMaxBackoff 1ns --retryInitialBackoff 1ns --retryMultiplier 1",
        "--bindAddr :30004 --disableAuthentication --tlsSelfSigned --bestEffortWindow 1s --stageMode crdb",
        "--stageSanityCheckPeriod -1 --stageUnappliedPeriod -1s --scnWindowSize -1",
        "--metricsAddr :30005 --metricsSnapshotPeriod 15s --metricsSnapshotRetentionSize 1GiB",
        "--oracle-application-users A,B --oracle-application-users C",
        "--logFormat fluent --logDestination out.log --gracePeriod 1m30s",
    ] {
        let flags = flags(line);
        let create = flags.connections.staging.staging_create_schema;
        assert_eq!(create, line.contains("--stagingCreateSchema"));
    }
}

#[test]
fn documented_command_lines_of_start_are_taken() {
    for line in [
        "--targetConn t --stagingConn s --stagingSchema defaultdb._replicator --bindAddr :30004 \
         --tlsCertificate ./certs/server.crt --tlsPrivateKey ./certs/server.key",
        "--targetConn t --stagingConn s --stagingSchema _replicator --stagingCreateSchema \
         --disableAuthentication --tlsSelfSigned -vv --bestEffortWindow 1s --discard --discardDelay 2s",
        "--targetConn t --bindAddr 0.0.0.0:30004 --immediate --limitLookahead 5 --stageMode crdb",
    ] {
        let flags = start_flags(line);
        assert_eq!(flags.listening.tls_self_signed, line.contains("--tlsSelfSigned"));
        assert_eq!(flags.listening.discard, line.contains("--discard "));
    }
}

#[test]
fn switches_take_what_go_takes() {
    for (line, create, collapse) in [
        ("", false, true),
        ("--stagingCreateSchema --collapseMutations", true, true),
        ("--stagingCreateSchema=true --collapseMutations=false", true, false),
        ("--stagingCreateSchema=T --collapseMutations=0", true, false),
        ("--stagingCreateSchema --stagingCreateSchema=false", false, true),
    ] {
        let flags = flags(line);
        assert_eq!(flags.connections.staging.staging_create_schema, create, "{line}");
        assert_eq!(flags.applying.collapse_mutations, collapse, "{line}");
    }
    let refusal = refused("replicator pglogical --stagingCreateSchema false");
    assert!(refusal.text.contains("--stagingCreateSchema=false"), "{}", refusal.text);
    let refusal = refused("replicator pglogical --collapseMutations=yes");
    assert!(refusal.text.contains("must be true or false"), "{}", refusal.text);
}

#[test]
fn verbosity_is_counted_before_and_after_the_command() {
    for (line, count) in [
        ("replicator pglogical", 0),
        ("replicator pglogical --verbose", 1),
        ("replicator -v pglogical", 1),
        ("replicator pglogical -vv", 2),
        ("replicator pglogical -v --verbose", 2),
    ] {
        assert_eq!(parsed(line).process.verbose, count, "{line}");
    }
}

#[test]
fn the_last_of_two_counts() {
    assert_eq!(flags("--slotName a --slotName b").position.slot_name, "b");
}

#[test]
fn flags_without_effect_are_named_once_with_a_reason() {
    let flags = flags("--immediate --scn 5 --scn 6 --target-apply-queue-size 7 --stageMode crdb");
    assert_eq!(
        flags.inert.warnings(),
        [
            "--targetApplyQueueSize has no effect on pglogical: --memoryLimit bounds what is read \
             ahead",
            "--immediate has no effect on pglogical: source transactions are always kept whole and \
             in order",
            "--stageMode is deprecated and has no effect: rows of ordered sources are not staged",
            "--scn has no effect on pglogical: it is for Oracle sources",
        ]
    );
}

#[test]
fn every_flag_without_effect_takes_its_own_default() {
    let line = |flag: &super::inert::Inert| {
        let value = match flag.default {
            "" | "deprecated" => "1",
            default => default,
        };
        format!("--{}={value}", flag.name)
    };
    for flag in pglogical::PgLogical::FLAGS.iter().copied().flatten() {
        assert_eq!(flags(&line(flag)).inert.warnings().len(), 1, "--{}", flag.name);
    }
    for flag in start::Start::FLAGS.iter().copied().flatten() {
        let warnings = start_flags(&line(flag)).inert.warnings();
        assert_eq!(warnings.len(), 1, "--{}", flag.name);
        assert!(warnings[0].contains("on start: ") || flag.default == "deprecated", "{warnings:?}");
    }
}

#[test]
fn unreadable_values_name_their_flag() {
    for (line, parts) in [
        ("--flushPeriod 30", ["--flushPeriod", "a unit is missing"]),
        ("--flushSize many", ["--flushSize", "invalid digit"]),
        ("--logFormat xml", ["--logFormat", "text, fluent"]),
        ("--truncate maybe", ["--truncate", "stop, apply, ignore"]),
        ("--onReject never", ["--onReject", "stop, dlq"]),
        ("--dlqMaxPercent x", ["--dlqMaxPercent", "invalid digit"]),
        ("--retireOffset x", ["--retireOffset", "not a duration"]),
        ("--flushsize 5", ["--flushsize", "--flushSize"]),
    ] {
        let refusal = refused(&format!("replicator pglogical {line}"));
        assert_eq!(refusal.code, 2);
        for part in parts {
            assert!(refusal.text.contains(part), "{part} in: {}", refusal.text);
        }
    }
}

#[test]
fn commands_that_are_not_built_say_so() {
    let refusal = refused("replicator oraclelogminer --targetConn t");
    assert_eq!(refusal.code, 2);
    assert_eq!(
        refusal.text.lines().next().unwrap(),
        "error: the command \"oraclelogminer\" is not built yet in this version; it has: pglogical, \
         mylogical, start, make-jwt, version"
    );
    let refusal = refused("replicator pglogica");
    assert!(refusal.text.contains("similar") && refusal.text.contains("pglogical"));
    assert_eq!(refusal.code, 2);
}

#[test]
fn a_misplaced_connection_string_does_not_show_its_password() {
    let refusal = refused("replicator pglogical postgresql://root:geheim@host:1/db");
    assert!(!refusal.text.contains("geheim"), "{}", refusal.text);
    assert!(refusal.text.contains("postgresql://root:***@host:1/db"), "{}", refusal.text);
    let flags = flags("--sourceConn postgresql://root:geheim@host:1/db");
    assert!(!format!("{flags:?}").contains("geheim"));
}

#[test]
fn help_and_version_go_to_standard_output() {
    let refusal = refused("replicator --version");
    assert_eq!(refusal.text, format!("replicator {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(refusal.code, 0);
    let help = refused("replicator pglogical --help");
    assert_eq!(help.code, 0);
    let mut rest = help.text.as_str();
    for heading in [
        "Connections and schemas:",
        "Starting position:",
        "Applying:",
        "Pools:",
        "Process, logs, metrics:",
        "Additions of this program:",
        "Accepted, without effect on pglogical:",
    ] {
        let at = rest.find(heading).unwrap_or_else(|| panic!("{heading} in: {}", help.text));
        rest = rest.split_at(at).1;
    }
    assert!(help.text.contains("postgresql://{user}:{password}@{host}"), "{}", help.text);
    assert!(!help.text.contains("copierChannel"), "help shows a deprecated flag");
}
