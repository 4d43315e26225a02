//! Can the source server and its tables serve us?
use replicator_core::model::catalog::{Catalog, Column, Made, Table};
use replicator_core::model::gtid::BinlogFlavor;
use replicator_core::model::ident::TableName;

use super::Options;
use super::facts::{SourceColumn, SourceFacts};
use crate::preflight::finding::{Finding, quoted_list};

/// Logs that are kept for less than this may be gone before we come back, in seconds.
const RETENTION_MIN: u64 = 24 * 3600;

/// The oldest versions, as `major * 100 + minor`.
const MYSQL_MIN: u32 = 507;
const MARIADB_MIN: u32 = 1005;

/// Where rows are to go.
pub(super) struct Wanted<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) schema: &'a str,
}

/// Checks the server itself and our user on it.
pub(super) fn server(facts: &SourceFacts, options: &Options, findings: &mut Vec<Finding>) {
    let oldest = match facts.flavor {
        BinlogFlavor::MySql => (MYSQL_MIN, "MySQL 5.7"),
        BinlogFlavor::MariaDb => (MARIADB_MIN, "MariaDB 10.5"),
    };
    if facts.number < oldest.0 {
        let (version, oldest) = (&facts.version, oldest.1);
        findings.push(Finding::error(format!("{version} is too old; {oldest} or later is needed")));
    }
    let database = &options.database;
    if !facts.has_database {
        findings.push(Finding::error(format!(
            "database \"{database}\" of --sourceConn does not exist, or our user may not see it (names \
             are compared exactly); GRANT SELECT on it shows it"
        )));
    }
    must_be(facts, "log_bin", &["ON", "1"], findings);
    must_be(facts, "binlog_format", &["ROW"], findings);
    if facts.flavor == BinlogFlavor::MySql {
        must_be(facts, "gtid_mode", &["ON", "1"], findings);
        must_be(facts, "enforce_gtid_consistency", &["ON", "1"], findings);
    }
    images(facts, options, findings);
    grants(facts, findings);
    retention(facts, findings);
    if facts.prepared > 0 {
        findings.push(Finding::warning(format!(
            "the source has {} XA transactions that are prepared and have no outcome (XA RECOVER): if they were \
             prepared before --defaultGTIDSet was taken, commit or roll them back and take it again",
            facts.prepared
        )));
    }
    if facts.variable("server_id") == Some("0") {
        findings.push(Finding::error(
            "server_id of the source is 0, with which it serves no replicas; give it a number of its own",
        ));
    }
}

fn must_be(facts: &SourceFacts, name: &str, wanted: &[&str], findings: &mut Vec<Finding>) {
    let is = facts.variable(name).unwrap_or("absent");
    if wanted.iter().any(|wanted| is.eq_ignore_ascii_case(wanted)) {
        return;
    }
    let must = wanted.first().copied().unwrap_or_default();
    let text = format!("{name} of the source is {is} and must be {must}");
    let finding = match name {
        "log_bin" => Finding::error(format!("{text}: start the server with --log-bin")),
        "gtid_mode" => Finding::error(format!(
            "{text}: see \"Enabling GTID Transactions Online\" in its manual, or start it with \
             --gtid-mode=on --enforce-gtid-consistency=on"
        )),
        _ => Finding::error(format!("{text}, in all sessions that write"))
            .fix_source(format!("SET GLOBAL {name} = {must};")),
    };
    findings.push(finding);
}

/// Whether the binary log says of rows what we must know.
fn images(facts: &SourceFacts, options: &Options, findings: &mut Vec<Finding>) {
    if facts.variable("binlog_row_image").is_some_and(|is| is.eq_ignore_ascii_case("MINIMAL")) {
        let text = "binlog_row_image of the source is MINIMAL: updates and deletes are applied, but a row \
                    that is inserted without all of its columns stops replication";
        let fix = "SET GLOBAL binlog_row_image = 'FULL';";
        findings.push(Finding::warning(text).fix_source(fix));
    }
    if options.fetch_metadata {
        return;
    }
    match facts.variable("binlog_row_metadata") {
        Some(is) if is.eq_ignore_ascii_case("FULL") => (),
        Some(is) => {
            let text = format!(
                "binlog_row_metadata of the source is {is} and must be FULL, or --fetchMetadata be given"
            );
            let fix = "SET GLOBAL binlog_row_metadata = 'FULL';";
            findings.push(Finding::error(text).fix_source(fix));
        }
        None => findings.push(Finding::warning(
            "this version of the source has no binlog_row_metadata: its catalog is asked for the names of \
             columns, as with --fetchMetadata",
        )),
    }
}

fn grants(facts: &SourceFacts, findings: &mut Vec<Finding>) {
    let may = |privilege: &str| {
        facts.grants.iter().map(|grant| grant.to_uppercase()).any(|grant| {
            // What roles bring is not listed.
            let everything = grant.contains("ALL PRIVILEGES ON *.*");
            everything || grant.contains(privilege) || !grant.contains(" ON ")
        })
    };
    if !may("REPLICATION SLAVE") {
        let text = "our user on the source may not read its binary log";
        let fix = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO …; -- our user";
        findings.push(Finding::error(text).fix_source(fix));
    }
}

fn retention(facts: &SourceFacts, findings: &mut Vec<Finding>) {
    let seconds = match facts.variable("binlog_expire_logs_seconds") {
        Some(seconds) => seconds.parse::<u64>().ok(),
        None => {
            let days = facts.variable("expire_logs_days").and_then(|days| days.parse::<u64>().ok());
            days.map(|days| days.saturating_mul(24 * 3600))
        }
    };
    // 0 is for ever.
    if let Some(seconds @ 1..RETENTION_MIN) = seconds {
        let text = format!(
            "the source keeps its binary log for {seconds} s: if replication is away for longer, the tables \
             must be copied again"
        );
        let fix = "SET GLOBAL binlog_expire_logs_seconds = 604800;";
        findings.push(Finding::warning(text).fix_source(fix));
    }
}

/// Checks the place of the source, and ours, among servers that replicate.
pub(super) fn replicas(facts: &SourceFacts, server_id: u32, findings: &mut Vec<Finding>) {
    let own = facts.variable("server_id").and_then(|id| id.parse::<u32>().ok());
    if own == Some(server_id) {
        findings.push(Finding::error(format!(
            "--replicationProcessID {server_id} is the server_id of the source itself; give another number"
        )));
    }
    if facts.replicas.contains(&server_id) {
        findings.push(Finding::warning(format!(
            "a replica with the number {server_id} reads from the source: if it is not the connection of our \
             last run, give another --replicationProcessID, or the two may end each other's connections"
        )));
    }
    let Some(from) = &facts.replicates_from else { return };
    let logs =
        facts.variable("log_replica_updates").or_else(|| facts.variable("log_slave_updates"));
    if logs.is_some_and(|logs| !matches!(logs, "ON" | "1")) {
        findings.push(Finding::error(format!(
            "the source is a replica of {from} and does not log what it gets from there; connect to the \
             primary, or start it with --log-replica-updates=on"
        )));
    } else {
        findings.push(Finding::warning(format!(
            "the source is a replica of {from}: changes come as late as it is; connect to the primary, \
             unless that is meant"
        )));
    }
}

/// Checks the tables of the database. Returns the target tables that they go to.
pub(super) fn tables(
    facts: &SourceFacts,
    wanted: &Wanted<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<TableName> {
    let mut missing: Vec<&str> = Vec::new();
    let mut names = Vec::new();
    for (name, columns) in &facts.tables {
        match find(wanted, name) {
            None => missing.push(name),
            Some(table) => {
                names.push(table.name.clone());
                check_columns(name, columns, table, findings);
            }
        }
    }
    if !facts.cascading.is_empty() && !facts.tells_all() {
        findings.push(Finding::warning(format!(
            "foreign keys of the source change rows by themselves (ON DELETE CASCADE and the like), and its binary \
             log does not have these changes: the same foreign keys with the same rules must be in the target, or \
             its rows stay as they were, in {}",
            quoted_list(&facts.cascading)
        )));
    }
    if !missing.is_empty() {
        findings.push(Finding::warning(format!(
            "schema \"{}\" of the target lacks tables that the source has; a change to one of them stops \
             replication: {}",
            wanted.schema,
            quoted_list(missing)
        )));
    }
    names
}

fn find<'a>(wanted: &Wanted<'a>, name: &str) -> Option<&'a Table> {
    let exact = wanted.catalog.find(&TableName::new(wanted.schema, name));
    if let Some(id) = exact {
        return Some(wanted.catalog.table(id));
    }
    let same = |table: &&Table| {
        table.name.schema == wanted.schema && table.name.table.eq_ignore_ascii_case(name)
    };
    let mut same = wanted.catalog.tables().map(|(_, table)| table).filter(same);
    same.next().filter(|_| same.next().is_none())
}

fn check_columns(
    source: &str,
    columns: &[SourceColumn],
    target: &Table,
    findings: &mut Vec<Finding>,
) {
    let name = &target.name;
    let at_target = |column: &&SourceColumn| {
        !target.columns.iter().any(|known| known.name.eq_ignore_ascii_case(&column.name))
    };
    let unexpected: Vec<&SourceColumn> = columns.iter().filter(at_target).collect();
    if !unexpected.is_empty() {
        let names = quoted_list(unexpected.iter().map(|column| &column.name));
        findings.push(Finding::error(format!(
            "table {name} on the target has unexpected columns on the source: {names}"
        )));
    }
    let needed = |column: &&Column| {
        !column.nullable
            && !column.has_default
            && column.made == Made::Written
            && !columns.iter().any(|sent| sent.name.eq_ignore_ascii_case(&column.name))
    };
    let needed: Vec<&Column> = target.columns.iter().filter(needed).collect();
    if !needed.is_empty() {
        let names = quoted_list(needed.iter().map(|column| &column.name));
        findings.push(Finding::error(format!(
            "table {name} on the target has columns that table \"{source}\" of the source lacks, that \
             refuse NULL and have no default: {names}"
        )));
    }
    if target.key.is_empty() {
        findings.push(Finding::warning(format!(
            "table {name} on the target has no key: rows can be inserted, but an update or a delete stops \
             replication"
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BinlogFlavor, Catalog, Finding, Options, SourceFacts, Wanted, replicas, server, tables,
    };
    use crate::preflight::TargetOptions;
    use crate::preflight::finding::Findings;
    use replicator_core::model::ident::SchemaName;
    use std::time::Duration;

    const GOOD: [(&str, &str); 8] = [
        ("log_bin", "ON"),
        ("binlog_format", "ROW"),
        ("binlog_row_image", "FULL"),
        ("binlog_row_metadata", "FULL"),
        ("gtid_mode", "ON"),
        ("enforce_gtid_consistency", "ON"),
        ("server_id", "7"),
        ("binlog_expire_logs_seconds", "2592000"),
    ];

    fn options() -> Options {
        let schema = SchemaName { database: None, schema: "public".to_owned() };
        let answer_limit = Duration::from_secs(1);
        let target = TargetOptions { schema, staging: None, answer_limit };
        Options { database: "app".to_owned(), server_id: 10, fetch_metadata: false, target }
    }

    fn found(change: &[(&str, &str)], options: &Options) -> String {
        let kept = GOOD.iter().filter(|(name, _)| change.iter().all(|(other, _)| other != name));
        let variables: Vec<_> =
            kept.chain(change).filter(|(_, value)| !value.is_empty()).copied().collect();
        let mut findings: Vec<Finding> = Vec::new();
        let facts = SourceFacts::of(BinlogFlavor::MySql, &variables);
        server(&facts, options, &mut findings);
        replicas(&facts, options.server_id, &mut findings);
        Findings::new(findings).to_string()
    }

    #[test]
    fn a_good_server_has_no_findings() {
        assert_eq!(found(&[], &options()), "preflight found nothing wrong");
    }

    #[test]
    fn everything_wrong_with_the_server_is_listed_at_once() {
        let text = found(
            &[
                ("log_bin", "OFF"),
                ("binlog_format", "MIXED"),
                ("binlog_row_metadata", "MINIMAL"),
                ("gtid_mode", "OFF_PERMISSIVE"),
                ("server_id", "10"),
                ("binlog_expire_logs_seconds", "3600"),
                ("binlog_row_image", "MINIMAL"),
            ],
            &options(),
        );
        assert!(text.starts_with("preflight found 5 errors and 2 warnings"), "{text}");
        for part in [
            "log_bin of the source is OFF and must be ON",
            "SET GLOBAL binlog_format = ROW;",
            "SET GLOBAL binlog_row_metadata = 'FULL';",
            "gtid_mode of the source is OFF_PERMISSIVE",
            "--replicationProcessID 10 is the server_id of the source itself",
            "keeps its binary log for 3600 s",
            "inserted without all of its columns",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn an_old_server_is_asked_for_names_and_a_flag_does_that_too() {
        let text = found(&[("binlog_row_metadata", "")], &options());
        assert!(text.contains("as with --fetchMetadata"), "{text}");
        let options = Options { fetch_metadata: true, ..options() };
        let text = found(&[("binlog_row_metadata", "MINIMAL")], &options);
        assert_eq!(text, "preflight found nothing wrong");
    }

    #[test]
    fn changes_that_the_log_does_not_have_are_warned_of() {
        let of = |native: &[(&str, &str)]| {
            let mut facts = SourceFacts::of(BinlogFlavor::MySql, native);
            facts.cascading = vec!["order_line".to_owned()];
            let catalog = Catalog::default();
            let mut findings = Vec::new();
            tables(&facts, &Wanted { catalog: &catalog, schema: "public" }, &mut findings);
            Findings::new(findings).to_string()
        };
        for native in [&[][..], &[("innodb_native_foreign_keys", "ON")]] {
            let text = of(native);
            assert!(text.contains("its rows stay as they were, in \"order_line\""), "{text}");
        }
        let text = of(&[("innodb_native_foreign_keys", "OFF")]);
        assert_eq!(text, "preflight found nothing wrong");
    }

    #[test]
    fn a_user_that_may_not_read_the_log_is_told_what_to_grant() {
        let mut facts = SourceFacts::of(BinlogFlavor::MySql, &GOOD);
        let mut of = |grants: &[&str]| {
            facts.grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
            let mut findings = Vec::new();
            server(&facts, &options(), &mut findings);
            Findings::new(findings).to_string()
        };
        let text = of(&["GRANT USAGE ON *.* TO `me`", "GRANT SELECT ON `app`.* TO `me`"]);
        assert!(text.contains("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*"), "{text}");
        for enough in [
            "GRANT ALL PRIVILEGES ON *.* TO `me` WITH GRANT OPTION",
            "GRANT SELECT, REPLICATION SLAVE ON *.* TO `me`",
            // A role, whose privileges are not listed.
            "GRANT `moving`@`%` TO `me`@`%`",
        ] {
            assert_eq!(of(&[enough]), "preflight found nothing wrong", "{enough}");
        }
    }
}
