//! Can the source server, its slot and its publication serve us?
use replicator_core::model::ident::Quoted;

use crate::preflight::finding::{Finding, literal, quoted_list};
use crate::preflight::source::{PublicationFacts, ServerFacts, SlotFacts, SourceFacts};

/// Checks the server itself and our role on it.
pub(in crate::preflight) fn server(server: &ServerFacts, findings: &mut Vec<Finding>) {
    if server.in_recovery {
        findings.push(Finding::error(
            "the source is a replica: pg_is_in_recovery() must be false; connect to the primary",
        ));
    }
    if server.wal_level != "logical" {
        let text = format!(
            "wal_level is \"{}\" and must be \"logical\"; restart the server after the change",
            server.wal_level
        );
        findings.push(Finding::error(text).fix_source("ALTER SYSTEM SET wal_level = 'logical';"));
    }
    if !server.may_replicate {
        let role = &server.role;
        let text = format!("role \"{role}\" may not start replication");
        let fix = format!("ALTER USER {} WITH LOGIN REPLICATION;", Quoted(role));
        findings.push(Finding::error(text).fix_source(fix));
    }
}

/// Checks the slot called `name`. Returns it if it is there.
pub(in crate::preflight) fn slot<'a>(
    facts: &'a SourceFacts,
    name: &str,
    findings: &mut Vec<Finding>,
) -> Option<&'a SlotFacts> {
    let create = create_slot(name);
    let again = format!("SELECT pg_drop_replication_slot({});\n{create}", literal(name));
    let Some(slot) = facts.slots.iter().find(|slot| slot.name == name) else {
        let mut text = format!("replication slot \"{name}\" does not exist");
        let usable = |slot: &&SlotFacts| misfit(slot, &facts.server.database).is_none();
        let there = quoted_list(facts.slots.iter().filter(usable).map(|slot| slot.name.as_str()));
        if !there.is_empty() {
            text.push_str("; this database has ");
            text.push_str(&there);
        }
        findings.push(Finding::error(text).fix_source(create));
        return None;
    };
    if let Some(why) = misfit(slot, &facts.server.database) {
        let text = format!(
            "replication slot \"{name}\" {why}; use another slot, or replace it, which forgets its \
             position"
        );
        findings.push(Finding::error(text).fix_source(again));
        return Some(slot);
    }
    if let Some(why) = lost(slot) {
        let text = format!(
            "replication slot \"{name}\" is lost: {why}; replace it and load the tables again, \
             changes since its position are gone"
        );
        findings.push(Finding::error(text).fix_source(again));
        return Some(slot);
    }
    if let Some(pid) = slot.active_pid {
        let text = format!(
            "replication slot \"{name}\" is in use by process {pid}; stop the other reader, or wait \
             for wal_sender_timeout if it is dead"
        );
        let fix = format!("SELECT pg_terminate_backend({pid});");
        findings.push(Finding::error(text).fix_source(fix).passing());
    }
    if slot.wal_status.as_deref() == Some("unreserved") {
        findings.push(Finding::warning(format!(
            "replication slot \"{name}\" is about to be lost: it is beyond max_slot_wal_keep_size"
        )));
    }
    if slot.two_phase {
        let text = format!(
            "replication slot \"{name}\" was made with two_phase; prepared transactions cannot be \
             replicated through it"
        );
        findings.push(Finding::warning(text));
    }
    Some(slot)
}

/// Why the slot is of no use in this database.
fn misfit(slot: &SlotFacts, database: &str) -> Option<String> {
    if slot.kind != "logical" {
        return Some(format!("is {} and must be logical", slot.kind));
    }
    let plugin = slot.plugin.as_deref().unwrap_or_default();
    if plugin != "pgoutput" {
        return Some(format!("uses plugin \"{plugin}\" and must use \"pgoutput\""));
    }
    let of = slot.database.as_deref().unwrap_or_default();
    (of != database).then(|| format!("belongs to database \"{of}\" and not to \"{database}\""))
}

/// Why the slot can never be read from again.
fn lost(slot: &SlotFacts) -> Option<String> {
    if slot.wal_status.as_deref() == Some("lost") || slot.invalidation_reason.is_some() {
        let why = slot.invalidation_reason.as_deref().unwrap_or("the WAL it needs was removed");
        return Some(why.to_owned());
    }
    slot.confirmed_flush.is_none().then(|| "it has no position".to_owned())
}

fn create_slot(name: &str) -> String {
    format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput');", literal(name))
}

/// Chooses the publication: the one asked for, or else the only one that holds tables.
pub(in crate::preflight) fn publication<'a>(
    publications: &'a [PublicationFacts],
    wanted: Option<&str>,
    findings: &mut Vec<Finding>,
) -> Option<&'a PublicationFacts> {
    let filled = || publications.iter().filter(|publication| publication.tables > 0);
    let chosen = match wanted {
        Some(name) => publications.iter().find(|publication| publication.name == name),
        None => filled().next().filter(|_| filled().count() == 1),
    };
    let Some(chosen) = chosen else {
        findings.push(no_publication(publications, wanted, filled().count()));
        return None;
    };
    let name = &chosen.name;
    if chosen.tables == 0 {
        let text = format!("publication \"{name}\" holds no tables");
        let fix =
            format!("ALTER PUBLICATION {} ADD TABLE …; -- the tables to replicate", Quoted(name));
        findings.push(Finding::error(text).fix_source(fix));
    }
    let kinds = [
        (chosen.inserts, "insert"),
        (chosen.updates, "update"),
        (chosen.deletes, "delete"),
        (chosen.truncates, "truncate"),
    ];
    let unpublished: Vec<&str> =
        kinds.into_iter().filter(|(publishes, _)| !publishes).map(|(_, kind)| kind).collect();
    if !unpublished.is_empty() {
        let text = format!(
            "publication \"{name}\" does not publish {}; the target will not follow these",
            unpublished.join(", ")
        );
        let fix = format!(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
            Quoted(name)
        );
        findings.push(Finding::warning(text).fix_source(fix));
    }
    Some(chosen)
}

fn no_publication(
    publications: &[PublicationFacts],
    wanted: Option<&str>,
    filled: usize,
) -> Finding {
    let names = quoted_list(publications.iter().map(|publication| publication.name.as_str()));
    let mut text = match (wanted, filled) {
        (Some(name), _) => format!("publication \"{name}\" does not exist"),
        (None, 0) => "no publication holds tables".to_owned(),
        (None, _) => {
            "more than one publication holds tables; name one with --publicationName".to_owned()
        }
    };
    if !names.is_empty() {
        text.push_str("; this database has ");
        text.push_str(&names);
    }
    let finding = Finding::error(text);
    if wanted.is_none() && filled > 0 {
        return finding;
    }
    let name = wanted.unwrap_or("molt_fetch");
    finding.fix_source(format!("CREATE PUBLICATION {} FOR ALL TABLES;", Quoted(name)))
}

#[cfg(test)]
mod tests {
    use super::{publication, server, slot};
    use crate::preflight::finding::{Finding, Findings, Severity};
    use crate::preflight::source::{PublicationFacts, ServerFacts, SlotFacts, SourceFacts};
    use replicator_core::model::position::Lsn;

    fn good_server() -> ServerFacts {
        ServerFacts {
            version_number: 150_018,
            wal_level: "logical".to_owned(),
            in_recovery: false,
            database: "app".to_owned(),
            role: "mo\"ve".to_owned(),
            may_replicate: true,
            system_identifier: 7,
            timeline: Some(1),
            written: Some(Lsn(0x100)),
        }
    }

    fn good_slot() -> SlotFacts {
        SlotFacts {
            name: "molt_slot".to_owned(),
            kind: "logical".to_owned(),
            plugin: Some("pgoutput".to_owned()),
            database: Some("app".to_owned()),
            active_pid: None,
            confirmed_flush: Some(Lsn(16)),
            wal_status: Some("reserved".to_owned()),
            invalidation_reason: None,
            two_phase: false,
        }
    }

    fn good_publication(name: &str, tables: i64) -> PublicationFacts {
        PublicationFacts {
            name: name.to_owned(),
            all_tables: false,
            inserts: true,
            updates: true,
            deletes: true,
            truncates: true,
            tables,
        }
    }

    fn of_server(facts: &ServerFacts) -> String {
        let mut findings = Vec::new();
        server(facts, &mut findings);
        Findings::new(findings).to_string()
    }

    fn of_slot(slots: Vec<SlotFacts>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let facts = SourceFacts { server: good_server(), slots, publications: Vec::new() };
        slot(&facts, "molt_slot", &mut findings);
        findings
    }

    fn of_publication(
        publications: &[PublicationFacts],
        wanted: Option<&str>,
    ) -> (Option<String>, String) {
        let mut findings = Vec::new();
        let chosen = publication(publications, wanted, &mut findings);
        (chosen.map(|chosen| chosen.name.clone()), Findings::new(findings).to_string())
    }

    #[test]
    fn a_good_source_has_no_findings() {
        assert_eq!(of_server(&good_server()), "preflight found nothing wrong");
        assert_eq!(of_slot(vec![good_slot()]), []);
    }

    #[test]
    fn everything_wrong_with_the_server_is_listed_at_once() {
        let text = of_server(&ServerFacts {
            wal_level: "replica".to_owned(),
            in_recovery: true,
            may_replicate: false,
            ..good_server()
        });
        assert!(text.starts_with("preflight found 3 errors"), "{text}");
        assert!(text.contains("ALTER SYSTEM SET wal_level = 'logical';"), "{text}");
        assert!(text.contains("ALTER USER \"mo\"\"ve\" WITH LOGIN REPLICATION;"), "{text}");
        assert!(text.contains("connect to the primary"), "{text}");
    }

    #[test]
    fn a_missing_slot_says_how_to_make_it_and_which_there_are() {
        let other = SlotFacts { name: "other".to_owned(), ..good_slot() };
        let physical =
            SlotFacts { kind: "physical".to_owned(), name: "p".to_owned(), ..good_slot() };
        let findings = of_slot(vec![other, physical]);
        let text = findings[0].to_string();
        assert!(
            text.contains("\"molt_slot\" does not exist; this database has \"other\""),
            "{text}"
        );
        let fix = "SELECT pg_create_logical_replication_slot('molt_slot', 'pgoutput');";
        assert!(text.contains(fix), "{text}");
        assert!(!text.contains("\"p\""), "{text}");
    }

    #[test]
    fn a_slot_we_cannot_read_from_is_an_error() {
        let text = |text: &str| Some(text.to_owned());
        for (slot, what) in [
            (SlotFacts { kind: "physical".to_owned(), ..good_slot() }, "must be logical"),
            (SlotFacts { plugin: text("test_decoding"), ..good_slot() }, "must use \"pgoutput\""),
            (SlotFacts { database: text("b"), ..good_slot() }, "belongs to database \"b\""),
            (SlotFacts { active_pid: Some(42), ..good_slot() }, "in use by process 42"),
            (SlotFacts { wal_status: text("lost"), ..good_slot() }, "the WAL it needs was removed"),
            (
                SlotFacts { invalidation_reason: text("idle_timeout"), ..good_slot() },
                "idle_timeout",
            ),
            (SlotFacts { confirmed_flush: None, ..good_slot() }, "has no position"),
        ] {
            let findings = of_slot(vec![slot]);
            assert_eq!(findings.len(), 1, "{what}");
            assert_eq!(findings[0].severity, Severity::Error, "{what}");
            assert!(findings[0].text.contains(what), "{}", findings[0].text);
            assert!(findings[0].fix.is_some(), "{what}");
        }
    }

    #[test]
    fn a_slot_in_danger_is_a_warning() {
        let unreserved = Some("unreserved".to_owned());
        for slot in [
            SlotFacts { wal_status: unreserved, ..good_slot() },
            SlotFacts { two_phase: true, ..good_slot() },
        ] {
            let findings = of_slot(vec![slot]);
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].severity, Severity::Warning);
        }
    }

    #[test]
    fn the_only_publication_with_tables_is_taken_if_none_is_named() {
        let publications = [good_publication("empty", 0), good_publication("full", 2)];
        let (chosen, text) = of_publication(&publications, None);
        assert_eq!(chosen.as_deref(), Some("full"));
        assert_eq!(text, "preflight found nothing wrong");
    }

    #[test]
    fn among_several_publications_the_operator_must_choose() {
        let publications = [good_publication("a", 1), good_publication("b", 2)];
        let (chosen, text) = of_publication(&publications, None);
        assert_eq!(chosen, None);
        assert!(text.contains("this database has \"a\", \"b\""), "{text}");
        assert!(!text.contains("CREATE PUBLICATION"), "{text}");
        assert_eq!(of_publication(&publications, Some("b")).0.as_deref(), Some("b"));
    }

    #[test]
    fn a_missing_publication_says_how_to_make_it() {
        let (_, text) = of_publication(&[good_publication("a", 1)], Some("B"));
        assert!(
            text.contains("publication \"B\" does not exist; this database has \"a\""),
            "{text}"
        );
        assert!(text.contains("CREATE PUBLICATION \"B\" FOR ALL TABLES;"), "{text}");
        let (_, text) = of_publication(&[], None);
        assert!(text.contains("CREATE PUBLICATION \"molt_fetch\" FOR ALL TABLES;"), "{text}");
    }

    #[test]
    fn a_publication_that_holds_or_publishes_too_little_is_told() {
        let (_, text) = of_publication(&[good_publication("a", 0)], Some("a"));
        assert!(text.contains("error: publication \"a\" holds no tables"), "{text}");
        let partial =
            PublicationFacts { deletes: false, truncates: false, ..good_publication("a", 1) };
        let (_, text) = of_publication(&[partial], None);
        assert!(
            text.contains("warning: publication \"a\" does not publish delete, truncate"),
            "{text}"
        );
        assert!(text.contains("SET (publish = 'insert, update, delete, truncate');"), "{text}");
    }
}
