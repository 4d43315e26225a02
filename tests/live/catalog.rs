//! What we read from a target's catalog is what the target does.
use anyhow::{Context as _, Result, bail};
use replicator_core::dialect::Product;
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::ident::{Quoted, TableName};
use replicator_core::model::key::KeyKind;
use replicator_io::target::{catalog, product};
use replicator_tests::postgres::{self, Options, Server};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// A column of every type we know of, with a value that its type's text form shows in full.
const TYPES: &str = r#"
CREATE SCHEMA zoo;
CREATE TYPE zoo."Mood" AS ENUM ('sad', 'it''s "so"');
CREATE TYPE zoo.pair AS (a int4, b text);
CREATE DOMAIN zoo.positive AS int4 DEFAULT 7 NOT NULL CHECK (VALUE > 0);
CREATE DOMAIN zoo.nested AS zoo.positive;
CREATE DOMAIN zoo.short AS varchar(3);
CREATE DOMAIN zoo.span AS interval;
CREATE DOMAIN zoo.tags AS text[];
CREATE TABLE zoo.types (
    i2 int2 PRIMARY KEY, i4 int4, i8 int8, f4 float4, f8 float8, n numeric(20, 5), o oid,
    t text, v varchar(3), c char(3), ch "char", nm name, by bytea, bo bool, u uuid,
    d date, ti time(3), tz timetz, ts timestamp(3), tstz timestamptz, iv interval day to second,
    j json, jb jsonb, x xml, ine inet, ci cidr, ma macaddr, bi bit(4), vb varbit(7), mon money,
    lsn pg_lsn, p point, tv tsvector, i2v int2vector, rc regclass, r int4range,
    ai int4[], av varchar(3)[], am zoo."Mood"[], m zoo."Mood", pr zoo.pair, apr zoo.pair[],
    dom zoo.positive, nest zoo.nested, sh zoo.short, ash zoo.short[], sp zoo.span, tg zoo.tags
);
INSERT INTO zoo.types VALUES (
    -32768, 4, 9223372036854775807, 1.5, 'NaN', 12.34567, 42,
    'a,"b"{}\', 'abc', 'ab', 'x', 'name', '\xdead', true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    '2024-02-29', '24:00:00', '10:00:00.5+05', '2024-01-01 00:00:00.123', 'infinity',
    '3 days 04:05:06.789', '{"a": 1}', '{"b": [null, "c"]}', '<a/>', '10.0.0.1/8', '10.0.0.0/8',
    '08:00:2b:01:02:03', B'1010', B'101', 12.5, '16/B374D848', '(1,2)', 'a:1 b:2', '1 2 3',
    'pg_class', '[1,4)', '{1,NULL,3}', '{abc,NULL}', '{sad,"it''s \"so\""}', 'it''s "so"',
    '(1,"x y")', '{"(1,\"x y\")"}', 3, 4, 'abc', '{abc}', '1 day', '{a,"b c"}'
);
"#;

/// `(column, cast, kind, wire)` of the columns where these differ from what the name suggests.
const EXPECTED: &[(&str, &str, KeyKind, Wire)] = &[
    ("i2", "int2", KeyKind::Int, Wire::Int2),
    ("i4", "int4", KeyKind::Int, Wire::Int4),
    ("i8", "int8", KeyKind::Int, Wire::Int8),
    ("f4", "float4", KeyKind::Float, Wire::Text),
    ("n", "numeric", KeyKind::Numeric, Wire::Text),
    ("o", "oid", KeyKind::Int, Wire::Text),
    ("t", "text", KeyKind::Exact, Wire::Text),
    ("v", "varchar", KeyKind::Exact, Wire::Text),
    ("c", "bpchar", KeyKind::Padded, Wire::Text),
    ("ch", "\"char\"", KeyKind::Exact, Wire::Text),
    ("tz", "timetz", KeyKind::Loose, Wire::Text),
    ("ts", "timestamp", KeyKind::Exact, Wire::Text),
    ("iv", "interval", KeyKind::Loose, Wire::Text),
    ("jb", "jsonb", KeyKind::Loose, Wire::Text),
    ("ine", "inet", KeyKind::Exact, Wire::Text),
    ("bi", "\"bit\"", KeyKind::Exact, Wire::Text),
    ("mon", "\"money\"", KeyKind::Loose, Wire::Text),
    ("r", "\"int4range\"", KeyKind::Loose, Wire::Text),
    ("ai", "int4[]", KeyKind::Loose, Wire::Text),
    ("av", "varchar[]", KeyKind::Loose, Wire::Text),
    ("am", "\"zoo\".\"Mood\"[]", KeyKind::Loose, Wire::Text),
    ("m", "\"zoo\".\"Mood\"", KeyKind::Exact, Wire::Text),
    ("pr", "\"zoo\".\"pair\"", KeyKind::Loose, Wire::Text),
    ("dom", "int4", KeyKind::Int, Wire::Text),
    ("nest", "int4", KeyKind::Int, Wire::Text),
    ("sh", "varchar", KeyKind::Exact, Wire::Text),
    ("ash", "\"zoo\".\"short\"[]", KeyKind::Loose, Wire::Text),
    ("sp", "interval", KeyKind::Loose, Wire::Text),
    ("tg", "text[]", KeyKind::Loose, Wire::Text),
];

#[tokio::test]
async fn every_cast_reads_the_text_its_type_prints() -> Result<()> {
    let (_server, client) = start().await?;
    client.batch_execute(TYPES).await?;
    let table = read_table(&client, "zoo", "types").await?;
    for (name, cast, kind, wire) in EXPECTED {
        let column = column(&table, name)?;
        assert_eq!((&*column.cast, column.kind, column.wire), (*cast, *kind, *wire), "{name}");
    }

    client.batch_execute("CREATE TABLE zoo.copy (LIKE zoo.types)").await?;
    let texts = table.columns.iter().map(|column| format!("{}::TEXT", Quoted(&column.name)));
    let casts = table.columns.iter().enumerate();
    let casts = casts.map(|(index, column)| format!("x.c{index}::{}", column.cast));
    let aliases = (0..table.columns.len()).map(|index| format!("c{index}"));
    let sql = format!(
        "INSERT INTO zoo.copy SELECT {} FROM (SELECT {} FROM zoo.types) AS x({})",
        casts.collect::<Vec<_>>().join(", "),
        texts.collect::<Vec<_>>().join(", "),
        aliases.collect::<Vec<_>>().join(", "),
    );
    client.batch_execute(&sql).await?;
    let same = "SELECT (SELECT x::TEXT FROM zoo.types x) = (SELECT x::TEXT FROM zoo.copy x)";
    assert!(client.query_one(same, &[]).await?.get::<_, bool>(0));
    Ok(())
}

#[tokio::test]
async fn no_cast_cuts_a_value_off() -> Result<()> {
    let (_server, client) = start().await?;
    client.batch_execute(TYPES).await?;
    let table = read_table(&client, "zoo", "types").await?;
    for (name, value) in [
        ("v", "abcd"),
        ("c", "abcd"),
        ("sh", "abcd"),
        ("bi", "10101"),
        ("vb", "10101010"),
        ("av", "{abcd}"),
        ("ash", "{abcd}"),
    ] {
        let (quoted, cast) = (Quoted(name), &column(&table, name)?.cast);
        let sql =
            format!("UPDATE zoo.types SET {quoted} = x.c0::{cast} FROM unnest($1::TEXT[]) x(c0)");
        let Err(error) = client.execute(&sql, &[&vec![value]]).await else {
            bail!("{name} took {value}");
        };
        let refusals =
            [SqlState::STRING_DATA_RIGHT_TRUNCATION, SqlState::STRING_DATA_LENGTH_MISMATCH];
        assert!(error.code().is_some_and(|code| refusals.contains(code)), "{name}: {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nulls_and_defaults_of_domains_count_for_their_columns() -> Result<()> {
    let (_server, client) = start().await?;
    client.batch_execute(TYPES).await?;
    let table = read_table(&client, "zoo", "types").await?;
    for (name, nullable, has_default) in
        [("i2", false, false), ("i4", true, false), ("dom", false, true), ("nest", false, true)]
    {
        let column = column(&table, name)?;
        assert_eq!((column.nullable, column.has_default), (nullable, has_default), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn w26_names_are_compared_exactly() -> Result<()> {
    let (_server, client) = start().await?;
    client
        .batch_execute(
            r#"
            CREATE SCHEMA my_db;
            CREATE SCHEMA my1db;
            CREATE SCHEMA "My_db";
            CREATE SCHEMA "a.b""c%";
            CREATE TABLE my_db.t (mine int4 PRIMARY KEY);
            CREATE TABLE my1db.t (other int4 PRIMARY KEY);
            CREATE TABLE my1db.only_other (id int4 PRIMARY KEY);
            CREATE TABLE "My_db".t (third int4 PRIMARY KEY);
            CREATE TABLE my_db."T" ("Id" int4 PRIMARY KEY, id int4 REFERENCES my_db.t);
            CREATE TABLE "a.b""c%"."t.u""v" ("w.x""y" int4 PRIMARY KEY, "W.x""y" int4);
            "#,
        )
        .await?;
    let mine = catalog::load(&client, Product::Postgres, "my_db").await?;
    let names: Vec<String> = mine.tables().map(|(_, table)| table.name.to_string()).collect();
    assert_eq!(names, [r#""my_db"."t""#, r#""my_db"."T""#]);
    assert_eq!(find(&mine, "my_db", "t")?.columns[0].name, "mine");
    let upper = find(&mine, "my_db", "T")?;
    assert_eq!(upper.key, [0]);
    assert_eq!(upper.foreign_keys[0].columns, [1]);

    let odd = read_table(&client, "a.b\"c%", "t.u\"v").await?;
    let columns: Vec<&str> = odd.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["w.x\"y", "W.x\"y"]);

    // No name is a pattern, and a schema that is not there has no tables.
    for pattern in ["my%", "MY_DB", "a.b\"c", ""] {
        let catalog = catalog::load(&client, Product::Postgres, pattern).await?;
        assert_eq!(catalog.tables().count(), 0, "{pattern}");
    }
    Ok(())
}

#[tokio::test]
async fn w28_identity_generated_and_unique_columns_are_known() -> Result<()> {
    let (server, client) = start().await?;
    client
        .batch_execute(
            "CREATE TABLE made (
                 always int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 by_default int4 GENERATED BY DEFAULT AS IDENTITY,
                 counted serial,
                 stamped timestamptz DEFAULT now(),
                 plain text UNIQUE,
                 needed text NOT NULL)",
        )
        .await?;
    if server.major() >= 12 {
        let sql = "ALTER TABLE made ADD computed text GENERATED ALWAYS AS (plain || 'x') STORED";
        client.batch_execute(sql).await?;
    }
    let table = read_table(&client, "public", "made").await?;
    let facts = |name: &str| -> Result<(Made, bool)> {
        let column = column(&table, name)?;
        Ok((column.made, column.has_default))
    };
    assert_eq!(facts("always")?, (Made::IdentityAlways, true));
    assert_eq!(facts("by_default")?, (Made::Written, true));
    assert_eq!(facts("counted")?, (Made::Written, true));
    assert_eq!(facts("stamped")?, (Made::Written, true));
    assert_eq!(facts("plain")?, (Made::Written, false));
    assert_eq!(facts("needed")?, (Made::Written, false));
    if server.major() >= 12 {
        assert_eq!(facts("computed")?, (Made::Generated, true));
    }
    assert_eq!(table.key, [0]);
    assert_eq!(table.uniques.len(), 1);
    assert_eq!(table.uniques[0].columns, Some(vec![4]));
    Ok(())
}

#[tokio::test]
async fn a_key_is_what_on_conflict_can_name() -> Result<()> {
    let (server, client) = start().await?;
    client
        .batch_execute(
            "CREATE TABLE composite (a int4, b int4, c int4, PRIMARY KEY (c, a));
             CREATE TABLE late (a int4 PRIMARY KEY DEFERRABLE, b int4 NOT NULL);
             CREATE TABLE second (a int4 NOT NULL, b int4 NOT NULL, c text NOT NULL);
             CREATE UNIQUE INDEX second_partial ON second (a) WHERE b > 0;
             CREATE UNIQUE INDEX second_expression ON second (lower(c));
             CREATE UNIQUE INDEX second_included ON second (b) INCLUDE (a);
             CREATE TABLE nullable (a int4 UNIQUE, span int4range, EXCLUDE USING gist (span WITH &&));
             CREATE TABLE dropped (gone int4, a int4 NOT NULL, b int4 PRIMARY KEY);
             ALTER TABLE dropped DROP COLUMN gone;
             CREATE TABLE bare ();",
        )
        .await?;
    let catalog = catalog::load(&client, Product::Postgres, "public").await?;
    let key = |name| find(&catalog, "public", name).map(|table| table.key.clone());
    assert_eq!(key("composite")?, [2, 0]);
    assert_eq!(key("late")?, [0_u16; 0]);
    assert_eq!(key("second")?, [1]);
    assert_eq!(key("nullable")?, [0_u16; 0]);
    assert_eq!(key("dropped")?, [1]);
    assert_eq!(find(&catalog, "public", "bare")?.columns.len(), 0);

    let uniques = |name| -> Result<Vec<(String, Option<Vec<u16>>)>> {
        let uniques = &find(&catalog, "public", name)?.uniques;
        Ok(uniques.iter().map(|unique| (unique.name.clone(), unique.columns.clone())).collect())
    };
    let of = |name: &str, columns| (name.to_owned(), columns);
    assert_eq!(uniques("late")?, [of("late_pkey", Some(vec![0]))]);
    let opaque = [of("second_expression", None), of("second_partial", None)];
    assert_eq!(uniques("second")?, opaque);
    assert_eq!(
        uniques("nullable")?,
        [of("nullable_a_key", Some(vec![0])), of("nullable_span_excl", None)]
    );

    // What we take for a key the server takes for an arbiter.
    for (_, table) in catalog.tables().filter(|(_, table)| !table.key.is_empty()) {
        let names = table.key.iter().map(|index| Quoted(&table.column(*index).name).to_string());
        let names: Vec<String> = names.collect();
        let sql = format!(
            "INSERT INTO {} SELECT x.* FROM {} x LIMIT 0 ON CONFLICT ({}) DO NOTHING",
            table.name,
            table.name,
            names.join(", ")
        );
        client.batch_execute(&sql).await.context(sql)?;
    }
    if server.major() >= 15 {
        let sql = "CREATE TABLE nulls (a int4 UNIQUE NULLS NOT DISTINCT)";
        client.batch_execute(sql).await?;
        assert_eq!(read_table(&client, "public", "nulls").await?.uniques[0].columns, None);
    }
    Ok(())
}

#[tokio::test]
async fn a_collation_that_ignores_case_makes_a_key_loose() -> Result<()> {
    let (server, client) = start().await?;
    let mut kinds = vec![("plain", KeyKind::Exact)];
    client.batch_execute("CREATE TABLE plain (k text COLLATE \"C\" PRIMARY KEY)").await?;
    if server.major() >= 12 {
        client
            .batch_execute(
                "CREATE COLLATION relaxed
                     (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
                 CREATE TABLE loose (k text COLLATE relaxed PRIMARY KEY);
                 CREATE TABLE index_only (k text NOT NULL);
                 CREATE UNIQUE INDEX index_only_k ON index_only (k COLLATE relaxed);",
            )
            .await?;
        kinds.push(("loose", KeyKind::Loose));
        let table = read_table(&client, "public", "index_only").await?;
        assert!(table.key.is_empty());
        assert_eq!(table.uniques[0].columns, None);
    }
    for (name, kind) in kinds {
        assert_eq!(read_table(&client, "public", name).await?.columns[0].kind, kind, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn foreign_keys_order_the_tables() -> Result<()> {
    let (_server, client) = start().await?;
    client
        .batch_execute(
            "CREATE TABLE z_parent (a int4, b int4, PRIMARY KEY (a, b));
             CREATE TABLE m_child (id int4 PRIMARY KEY, pb int4, pa int4, boss int4 REFERENCES m_child,
                 CONSTRAINT up FOREIGN KEY (pa, pb) REFERENCES z_parent (a, b)
                     DEFERRABLE INITIALLY DEFERRED);
             CREATE TABLE a_grandchild (id int4 PRIMARY KEY REFERENCES m_child);
             CREATE TABLE one (id int4 PRIMARY KEY, other int4);
             CREATE TABLE other (id int4 PRIMARY KEY, one int4 REFERENCES one);
             ALTER TABLE one ADD FOREIGN KEY (other) REFERENCES other;
             CREATE SCHEMA elsewhere;
             CREATE TABLE elsewhere.p (id int4 PRIMARY KEY);
             CREATE TABLE abroad (id int4 PRIMARY KEY REFERENCES elsewhere.p);",
        )
        .await?;
    let catalog = catalog::load(&client, Product::Postgres, "public").await?;
    let id = |name| catalog.find(&TableName::new("public", name)).context(name);
    assert!(id("z_parent")? < id("m_child")? && id("m_child")? < id("a_grandchild")?);
    let child = find(&catalog, "public", "m_child")?;
    let up = child.foreign_keys.iter().find(|fk| fk.name == "up").context("up")?;
    assert_eq!((&*up.columns, &*up.parent_columns), (&[2, 1][..], &[0, 1][..]));
    assert!(up.deferrable && catalog.has_deferrable());
    let boss = child.foreign_keys.iter().find(|fk| fk.name != "up").context("boss")?;
    assert_eq!((boss.parent, boss.deferrable), (id("m_child")?, false));
    assert!(!child.place.cyclic && child.referenced);
    for name in ["one", "other"] {
        assert!(find(&catalog, "public", name)?.place.cyclic, "{name}");
    }
    // A parent in another schema is none of ours.
    assert!(find(&catalog, "public", "abroad")?.foreign_keys.is_empty());
    Ok(())
}

#[tokio::test]
async fn partitions_are_tables_with_the_foreign_keys_of_the_whole() -> Result<()> {
    let (server, client) = start().await?;
    client
        .batch_execute(
            "CREATE TABLE users (id int4 PRIMARY KEY);
             CREATE TABLE events (id int4, at date, who int4 REFERENCES users, PRIMARY KEY (id, at))
                 PARTITION BY RANGE (at);
             CREATE TABLE a_2024 PARTITION OF events
                 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');",
        )
        .await?;
    if server.major() >= 12 {
        client
            .batch_execute(
                "CREATE TABLE a_notes (id int4 PRIMARY KEY, event int4, at date,
                     FOREIGN KEY (event, at) REFERENCES events);",
            )
            .await?;
    }
    let catalog = catalog::load(&client, Product::Postgres, "public").await?;
    let id = |name| catalog.find(&TableName::new("public", name)).context(name);
    for name in ["events", "a_2024"] {
        let table = find(&catalog, "public", name)?;
        assert_eq!(table.key, [0, 1], "{name}");
        assert!(id("users")? < id(name)?, "{name}");
        assert_eq!(table.foreign_keys.len(), 1, "{name}");
    }
    if server.major() >= 12 {
        let notes = find(&catalog, "public", "a_notes")?;
        assert!(id("a_2024")? < id("a_notes")? && id("events")? < id("a_notes")?);
        assert_eq!(notes.foreign_keys.len(), 2);
    }
    Ok(())
}

#[tokio::test]
async fn w40_a_catalog_takes_three_questions_however_many_tables() -> Result<()> {
    let server =
        Server::start(postgres::major()?, &Options::default().set("log_statement", "all"))?;
    let client = server.client("postgres").await?;
    let questions = async |client: &Client| -> Result<(Catalog, usize)> {
        let count = || -> Result<usize> {
            Ok(std::fs::read_to_string(server.log())?.matches("execute ").count())
        };
        let before = count()?;
        let catalog = catalog::load(client, Product::Postgres, "public").await?;
        Ok((catalog, count()? - before))
    };
    client.batch_execute("CREATE TABLE one (id int4 PRIMARY KEY)").await?;
    assert_eq!(questions(&client).await?.1, 3);
    for number in 0..40 {
        let sql = format!("CREATE TABLE t{number} (id int4 PRIMARY KEY REFERENCES one)");
        client.batch_execute(&sql).await?;
    }
    let (first, count) = questions(&client).await?;
    assert_eq!((first.tables().count(), count), (41, 3));
    // An unchanged schema is an equal catalog, so a refresh can tell.
    assert_eq!(questions(&client).await?.0, first);
    Ok(())
}

#[tokio::test]
async fn a_role_without_rights_still_sees_the_tables() -> Result<()> {
    let (server, client) = start().await?;
    client
        .batch_execute(
            "CREATE TABLE closed (id int4 PRIMARY KEY, t text);
             CREATE ROLE nobody LOGIN PASSWORD 'nobody';",
        )
        .await?;
    let conninfo = server.conninfo("postgres").replace("postgres:secret@", "nobody:nobody@");
    let table = read_table(&postgres::connect(&conninfo).await?, "public", "closed").await?;
    assert_eq!((table.columns.len(), &*table.key), (2, &[0][..]));
    Ok(())
}

/// CockroachDB's questions are asked of PostgreSQL: what both products have must come out the same.
#[tokio::test]
async fn both_products_questions_have_one_meaning() -> Result<()> {
    let (_server, client) = start().await?;
    client
        .batch_execute(
            r#"CREATE TYPE mood AS ENUM ('sad');
               CREATE TABLE parent (id int8 PRIMARY KEY, u uuid UNIQUE, n numeric(9, 2) NOT NULL);
               CREATE TABLE "Child" (
                   id int4 GENERATED ALWAYS AS IDENTITY, other int4 GENERATED BY DEFAULT AS IDENTITY,
                   up int8 REFERENCES parent, moods mood[], m mood DEFAULT 'sad', t text, a int8[],
                   PRIMARY KEY (id, up));
               CREATE UNIQUE INDEX partial ON "Child" (up) WHERE t IS NULL;
               CREATE UNIQUE INDEX expression ON "Child" (lower(t));"#,
        )
        .await?;
    let postgres = catalog::load(&client, Product::Postgres, "public").await?;
    let cockroach = catalog::load(&client, Product::Cockroach, "public").await?;
    assert_eq!(postgres.tables().count(), 2);
    assert_eq!(postgres, cockroach);
    Ok(())
}

#[tokio::test]
async fn the_product_is_told_by_the_server() -> Result<()> {
    let (server, client) = start().await?;
    let told = product::detect(&client).await?;
    assert_eq!(told.product, Product::Postgres);
    let start = format!("PostgreSQL {}.", server.major());
    let number = told.version.strip_prefix(&start).context("another version")?;
    assert!(number.parse::<u16>().is_ok(), "{}", told.version);
    Ok(())
}

async fn start() -> Result<(Server, Client)> {
    let server = Server::start(postgres::major()?, &Options::default())?;
    let client = server.client("postgres").await?;
    Ok((server, client))
}

async fn read_table(client: &Client, schema: &str, table: &str) -> Result<Table> {
    let catalog = catalog::load(client, Product::Postgres, schema).await?;
    Ok(find(&catalog, schema, table)?.clone())
}

fn find<'a>(catalog: &'a Catalog, schema: &str, table: &str) -> Result<&'a Table> {
    let name = TableName::new(schema, table);
    let id = catalog.find(&name).with_context(|| format!("{name} is not in the catalog"))?;
    Ok(catalog.table(id))
}

fn column<'a>(table: &'a Table, name: &str) -> Result<&'a Column> {
    let index = table.find_column(name).with_context(|| format!("no column {name}"))?;
    Ok(table.column(index))
}
