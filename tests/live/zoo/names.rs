//! Names with everything that a quoted name may have.
use anyhow::Result;
use replicator_tests::databases::Databases;

use super::check_each;

const TABLES: &str = r#"
    CREATE TABLE "Table, with ""quotes"". and dots" (
        "Id" int PRIMARY KEY, "select" text, "a.b" text, "$1" text, "it's" text, "a ""b"" c" text,
        "größe 👍" text, " " text UNIQUE);
    CREATE TABLE "table" ("ID" int, "id" int, "Id" text, PRIMARY KEY ("id", "ID"));
    CREATE TABLE "Table" ("id" int PRIMARY KEY, "Val" text, "val" text);
    CREATE TABLE "a_name_of_sixty_three_bytes_which_is_the_longest_a_name_may_be_" (
        id int PRIMARY KEY, "another_name_of_sixty_three_bytes_for_a_column_of_this_table_xx" text);
"#;

const CHANGES: [&str; 5] = [
    r#"INSERT INTO "Table, with ""quotes"". and dots" VALUES (1, 'a', 'b', 'c', 'd', 'e', 'f', 'g');
       INSERT INTO "Table, with ""quotes"". and dots" VALUES (2);
       INSERT INTO "table" VALUES (1, 2, 'x'), (2, 1, 'y'); INSERT INTO "Table" VALUES (1, 'V', 'v')"#,
    r#"UPDATE "Table, with ""quotes"". and dots" SET "$1" = 'C', "it's" = 'D', " " = "Id"::text"#,
    r#"UPDATE "table" SET "Id" = 'z' WHERE "ID" = 2; UPDATE "Table" SET "Val" = 'W'"#,
    r#"UPDATE "Table, with ""quotes"". and dots" SET "Id" = 3 WHERE "Id" = 1; DELETE FROM "table" WHERE id = 2"#,
    r#"INSERT INTO "a_name_of_sixty_three_bytes_which_is_the_longest_a_name_may_be_" VALUES (1, 'x')"#,
];

#[tokio::test]
async fn w26_names_that_differ_in_case_alone_are_different() -> Result<()> {
    let databases = Databases::create("w26").await?;
    databases
        .both(
            r#"CREATE TABLE foo (id int PRIMARY KEY, val text, "Val" text, "VAL" text);
               CREATE TABLE "Foo" (id int PRIMARY KEY, val text, "Val" text, "VAL" text);
               CREATE TABLE "f_o" (id int PRIMARY KEY, val text, "Val" text, "VAL" text);"#,
        )
        .await?;
    // A pattern would take this schema and this database for the others.
    databases.to.batch_execute("CREATE SCHEMA pub1ic; CREATE TABLE pub1ic.foo (other int)").await?;
    databases.to.batch_execute("CREATE DATABASE w2_").await?;
    let statements = [
        r#"INSERT INTO foo VALUES (1, 'a', 'b', 'c'); INSERT INTO "Foo" VALUES (1, 'd', 'e', 'f');
           INSERT INTO f_o VALUES (1, 'g', 'h', 'i')"#,
        r#"UPDATE foo SET "Val" = 'B'; UPDATE "Foo" SET "VAL" = NULL, val = 'D'"#,
        r#"DELETE FROM "Foo"; UPDATE f_o SET id = 2"#,
    ];
    check_each(&databases, &statements.map(str::to_owned)).await?;
    assert_eq!(databases.number("SELECT count(*) FROM foo").await?, 1);
    Ok(())
}

#[tokio::test]
async fn quoted_names_of_tables_and_columns_work() -> Result<()> {
    let databases = Databases::create("zoo_names").await?;
    databases.both(TABLES).await?;
    check_each(&databases, &CHANGES.map(str::to_owned)).await
}

#[tokio::test]
async fn quoted_names_of_schemas_and_publications_work() -> Result<()> {
    let databases = Databases::create("zoo_schemas").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    let schema = r#""My.Schema ""x""""#;
    databases
        .to
        .batch_execute(&format!("CREATE SCHEMA {schema}; ALTER TABLE t SET SCHEMA {schema}"))
        .await?;
    databases.from.batch_execute(r#"CREATE PUBLICATION "My ""Pub"", it's" FOR TABLE t"#).await?;
    databases.create_slot().await?;
    let mut replicator = databases.replicate(&[
        "--publicationName",
        r#"My "Pub", it's"#,
        "--targetSchema",
        schema,
        "--stagingSchema",
        r#""Staging.X""#,
    ])?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'").await?;
    databases.confirmed(&mut replicator).await?;
    let sql = format!("SELECT count(*) FROM {schema}.t WHERE v = 'b'");
    assert_eq!(databases.number(&sql).await?, 1);
    assert!(databases.number(r#"SELECT count(*) FROM "Staging.X".memo"#).await? > 0);
    Ok(())
}
