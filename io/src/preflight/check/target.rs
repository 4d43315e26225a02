//! May we write where we are asked to?
use replicator_core::dialect::Product;
use replicator_core::model::ident::{Quoted, SchemaName, TableName};

use crate::preflight::finding::{Finding, Severity};
use crate::preflight::target::{PRIVILEGES, StagingFacts, TargetFacts};
use crate::staging::schema::StagingName;

/// Checks the target schema, and our rights to those of its tables that changes will come for.
pub(in crate::preflight) fn rights(
    target: &TargetFacts,
    schema: &SchemaName,
    wanted: &[TableName],
    findings: &mut Vec<Finding>,
) {
    if let Some(database) = &schema.database
        && *database != target.database
    {
        findings.push(Finding::error(format!(
            "the target connection is to database \"{}\", but --targetSchema names database \"{database}\"",
            target.database
        )));
    }
    let name = Quoted(&schema.schema);
    if !target.schema_exists {
        let text = format!("schema {name} does not exist on the target");
        findings.push(Finding::error(text).fix_target(format!("CREATE SCHEMA {name};")));
        return;
    }
    let role = Quoted(&target.role);
    if !target.schema_usage {
        let text = format!("role {role} may not use schema {name} on the target");
        let fix = format!("GRANT USAGE ON SCHEMA {name} TO {role};");
        findings.push(Finding::error(text).fix_target(fix));
    }
    // One finding for each privilege, however many tables lack it.
    for privilege in PRIVILEGES {
        let lacks = |table: &&TableName| {
            let lacking = target.lacking.get(&table.table);
            lacking.is_some_and(|lacking| lacking.contains(&privilege))
        };
        let tables: Vec<String> = wanted.iter().filter(lacks).map(TableName::to_string).collect();
        if !tables.is_empty() {
            let tables = tables.join(", ");
            let text = format!("role {role} lacks {privilege} on the target on {tables}");
            let fix = format!("GRANT {privilege} ON TABLE {tables} TO {role};");
            findings.push(Finding::error(text).fix_target(fix));
        }
    }
}

/// Checks the staging schema. `create` is `--stagingCreateSchema`.
pub(in crate::preflight) fn staging(
    target: &TargetFacts,
    name: &StagingName,
    create: bool,
    findings: &mut Vec<Finding>,
) {
    let role = Quoted(&target.role);
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA {name} TO {role};");
    match target.staging {
        None | Some(StagingFacts::Present { usage: true, create: true }) => (),
        Some(StagingFacts::Present { usage: false, .. }) => {
            let text = format!("role {role} may not use staging schema {name}");
            findings.push(Finding::error(text).fix_target(grant));
        }
        Some(StagingFacts::Present { usage: true, create: false }) => {
            let text = format!(
                "role {role} may not create tables in staging schema {name}; it must where they are \
                 not there yet"
            );
            findings.push(Finding::warning(text).fix_target(grant));
        }
        Some(StagingFacts::Absent { .. }) if !create => {
            let mut fix = String::new();
            if let Some(database) = &name.database {
                fix.push_str(&format!("CREATE DATABASE IF NOT EXISTS {};\n", Quoted(database)));
            }
            fix.push_str(&format!("CREATE SCHEMA IF NOT EXISTS {name};"));
            let text = format!(
                "staging schema {name} does not exist; create it, or run once with \
                 --stagingCreateSchema"
            );
            findings.push(Finding::error(text).fix_target(fix));
        }
        Some(StagingFacts::Absent { may_create: true }) => (),
        Some(StagingFacts::Absent { may_create: false }) => {
            let text = format!("role {role} may not create staging schema {name}");
            let (severity, fix) = match target.product {
                Product::Postgres => {
                    let database = Quoted(&target.database);
                    (Severity::Error, format!("GRANT CREATE ON DATABASE {database} TO {role};"))
                }
                // Members of `admin` may, and pg_roles does not say who they are.
                Product::Cockroach => (Severity::Warning, format!("ALTER USER {role} CREATEDB;")),
            };
            findings.push(Finding { severity, ..Finding::error(text).fix_target(fix) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        Product, SchemaName, StagingFacts, StagingName, TableName, TargetFacts, rights, staging,
    };
    use crate::preflight::finding::Findings;

    fn target() -> TargetFacts {
        TargetFacts {
            product: Product::Postgres,
            database: "app".to_owned(),
            role: "crdb_user".to_owned(),
            schema_exists: true,
            schema_usage: true,
            lacking: BTreeMap::new(),
            staging: None,
        }
    }

    fn of_rights(target: &TargetFacts, database: Option<&str>, wanted: &[&str]) -> String {
        let schema =
            SchemaName { database: database.map(str::to_owned), schema: "public".to_owned() };
        let wanted: Vec<_> = wanted.iter().map(|table| TableName::new("public", table)).collect();
        let mut findings = Vec::new();
        rights(target, &schema, &wanted, &mut findings);
        Findings::new(findings).to_string()
    }

    fn of_staging(facts: StagingFacts, product: Product, create: bool) -> String {
        let database = match product {
            Product::Postgres => None,
            Product::Cockroach => Some("defaultdb".to_owned()),
        };
        let name = StagingName { database, schema: "_replicator".to_owned() };
        let target = TargetFacts { staging: Some(facts), product, ..target() };
        let mut findings = Vec::new();
        staging(&target, &name, create, &mut findings);
        Findings::new(findings).to_string()
    }

    #[test]
    fn missing_privileges_are_listed_by_privilege_and_only_for_wanted_tables() {
        let lacking = BTreeMap::from([
            ("a".to_owned(), vec!["DELETE", "INSERT"]),
            ("b".to_owned(), vec!["DELETE"]),
            ("unwanted".to_owned(), vec!["UPDATE"]),
        ]);
        let text = of_rights(&TargetFacts { lacking, ..target() }, None, &["a", "b"]);
        assert!(text.starts_with("preflight found 2 errors"), "{text}");
        let delete = r#"GRANT DELETE ON TABLE "public"."a", "public"."b" TO "crdb_user";"#;
        assert!(text.contains(delete), "{text}");
        assert!(text.contains(r#"GRANT INSERT ON TABLE "public"."a" TO "crdb_user";"#), "{text}");
    }

    #[test]
    fn the_schema_must_be_there_and_open() {
        assert_eq!(of_rights(&target(), Some("app"), &["a"]), "preflight found nothing wrong");
        let closed = TargetFacts { schema_usage: false, ..target() };
        let text = of_rights(&closed, None, &[]);
        assert!(text.contains(r#"GRANT USAGE ON SCHEMA "public" TO "crdb_user";"#), "{text}");
        let gone = TargetFacts { schema_exists: false, schema_usage: false, ..target() };
        let text = of_rights(&gone, Some("other"), &[]);
        assert!(text.contains(r#"CREATE SCHEMA "public";"#), "{text}");
        assert!(text.contains("--targetSchema names database \"other\""), "{text}");
    }

    #[test]
    fn a_missing_staging_schema_is_created_or_asked_for() {
        let may = StagingFacts::Absent { may_create: true };
        assert_eq!(of_staging(may, Product::Postgres, true), "preflight found nothing wrong");
        let text = of_staging(may, Product::Postgres, false);
        assert!(text.contains("--stagingCreateSchema"), "{text}");
        assert!(text.contains(r#"CREATE SCHEMA IF NOT EXISTS "_replicator";"#), "{text}");
        let text = of_staging(may, Product::Cockroach, false);
        assert!(text.contains(r#"CREATE DATABASE IF NOT EXISTS "defaultdb";"#), "{text}");
        assert!(
            text.contains(r#"CREATE SCHEMA IF NOT EXISTS "defaultdb"."_replicator";"#),
            "{text}"
        );
    }

    #[test]
    fn rights_to_the_staging_schema_are_checked() {
        let may_not = StagingFacts::Absent { may_create: false };
        let text = of_staging(may_not, Product::Postgres, true);
        assert!(text.contains(r#"GRANT CREATE ON DATABASE "app" TO "crdb_user";"#), "{text}");
        let text = of_staging(may_not, Product::Cockroach, true);
        assert!(text.contains("0 errors and 1 warning"), "{text}");
        assert!(text.contains(r#"ALTER USER "crdb_user" CREATEDB;"#), "{text}");
        let grant = r#"GRANT USAGE, CREATE ON SCHEMA "_replicator" TO "crdb_user";"#;
        let closed = StagingFacts::Present { usage: false, create: false };
        let text = of_staging(closed, Product::Postgres, false);
        assert!(text.contains("1 error ") && text.contains(grant), "{text}");
        let read_only = StagingFacts::Present { usage: true, create: false };
        let text = of_staging(read_only, Product::Postgres, false);
        assert!(text.contains("1 warning") && text.contains(grant), "{text}");
    }
}
