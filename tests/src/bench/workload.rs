//! The workloads: tables, the rows they start with, and the transactions that the source commits.
//!
//! Nothing here is random where it would have to be the same twice: the source is written once for
//! all runs, and the first rows are made by the same statement everywhere.

/// How large a benchmark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Seconds for each run.
    Full,
    /// About a third of it.
    Quick,
}

impl Scale {
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// One workload.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// Its name in options and results; also the name of its databases.
    pub(crate) name: &'static str,
    /// What the picture calls it.
    pub(crate) title: &'static str,
    /// All tables but `sentinel`.
    pub(crate) tables: &'static [&'static str],
    /// Makes the tables.
    pub(crate) tables_sql: &'static str,
    /// Fills empty tables with the rows that are there before the first transaction.
    pub(crate) fill_sql: &'static str,
    /// The transactions: one statement for each session, all at once.
    pub(crate) transactions_sql: Vec<String>,
    /// Rows that the transactions change.
    pub(crate) rows: u64,
}

/// Sessions that write at the same time where one transaction is small.
const SESSIONS: u64 = 2;

const ITEM_SQL: &str = "CREATE TABLE item (id bigint PRIMARY KEY, version integer NOT NULL, \
     note text NOT NULL) WITH (fillfactor = 50)";
const ITEM_FILL_SQL: &str = "INSERT INTO item SELECT g, 0, repeat(md5(g::text), 4) \
     FROM generate_series(1, 200000) g";

const ENTRY_SQL: &str = "CREATE TABLE entry (id bigint PRIMARY KEY, k integer, \
     amount numeric(12, 2), note text, at timestamptz)";

/// The tables of pgbench (TPC-B like) at scale 10, with fewer accounts, because every run makes
/// them again; and its transaction as a function, so that it is one round trip. The history has a
/// primary key.
const BANK_SQL: &str = "
CREATE TABLE branches (bid integer PRIMARY KEY, bbalance integer, filler char(88));
CREATE TABLE tellers (tid integer PRIMARY KEY, bid integer, tbalance integer, filler char(84));
CREATE TABLE accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler char(84));
CREATE TABLE history (hid bigint PRIMARY KEY, tid integer, bid integer, aid integer,
    delta integer, mtime timestamptz, filler char(22));
CREATE FUNCTION pay(payment bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    account integer := 1 + floor(random() * 300000);
    teller integer := 1 + floor(random() * 100);
    branch integer := 1 + floor(random() * 10);
    amount integer := floor(random() * 10001) - 5000;
BEGIN
    UPDATE accounts SET abalance = abalance + amount WHERE aid = account;
    UPDATE tellers SET tbalance = tbalance + amount WHERE tid = teller;
    UPDATE branches SET bbalance = bbalance + amount WHERE bid = branch;
    INSERT INTO history VALUES (payment, teller, branch, account, amount, clock_timestamp(), '');
END $$";
const BANK_FILL_SQL: &str = "
INSERT INTO branches SELECT g, 0, '' FROM generate_series(1, 10) g;
INSERT INTO tellers SELECT g, (g - 1) / 10 + 1, 0, '' FROM generate_series(1, 100) g;
INSERT INTO accounts SELECT g, (g - 1) / 30000 + 1, 0, '' FROM generate_series(1, 300000) g";

const FAMILY_SQL: &str = "
CREATE TABLE parent (id bigint PRIMARY KEY, name text NOT NULL, made timestamptz NOT NULL);
CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint NOT NULL REFERENCES parent,
    place integer NOT NULL, note text NOT NULL)";

/// The tables that the latency is measured on.
pub(crate) fn latency() -> Workload {
    Workload { name: "latency", transactions_sql: Vec::new(), rows: 0, ..bank(0) }
}

/// All workloads, in the order they run.
pub(crate) fn all(scale: Scale) -> Vec<Workload> {
    vec![
        updates("update1", "updates, 1 row a transaction", scale.pick(150_000, 60_000), 1),
        updates("update10", "updates, 10 rows a transaction", scale.pick(30_000, 10_000), 10),
        bank(scale.pick(60_000, 25_000)),
        family(scale.pick(80_000, 30_000)),
        inserts("bulk1k", "inserts, 1,000 rows a transaction", scale.pick(600, 300), 1_000),
        inserts("bulk100k", "inserts, 100,000 rows a transaction", scale.pick(6, 3), 100_000),
        inserts("huge", "one transaction of 1,000,000 rows", 1, 1_000_000),
    ]
}

/// Updates of random rows. Each session has its own half of them, so that they cannot deadlock.
fn updates(name: &'static str, title: &'static str, transactions: u64, rows: u64) -> Workload {
    let session = |half: u64| {
        format!(
            "DO $$ DECLARE one bigint; BEGIN FOR tx IN 1..{} LOOP
                FOR number IN 1..{rows} LOOP
                    one := {} + floor(random() * 100000);
                    UPDATE item SET version = version + 1, note = repeat(md5(random()::text), 4)
                    WHERE id = one;
                END LOOP;
                COMMIT;
            END LOOP; END $$",
            transactions / SESSIONS,
            1 + half * 100_000
        )
    };
    Workload {
        name,
        title,
        tables: &["item"],
        tables_sql: ITEM_SQL,
        fill_sql: ITEM_FILL_SQL,
        transactions_sql: (0..SESSIONS).map(session).collect(),
        rows: transactions * rows,
    }
}

/// Three updates, two of them of hot rows, and one insert.
fn bank(transactions: u64) -> Workload {
    let session = |number: u64| {
        format!(
            "DO $$ BEGIN FOR tx IN 1..{} LOOP PERFORM pay(tx * {SESSIONS} + {number}); COMMIT; \
             END LOOP; END $$",
            transactions / SESSIONS
        )
    };
    Workload {
        name: "tpcb",
        title: "TPC-B like, 4 rows a transaction",
        tables: &["branches", "tellers", "accounts", "history"],
        tables_sql: BANK_SQL,
        fill_sql: BANK_FILL_SQL,
        transactions_sql: (0..SESSIONS).map(session).collect(),
        rows: transactions * 4,
    }
}

/// A parent and its three children.
fn family(transactions: u64) -> Workload {
    let session = |number: u64| {
        format!(
            "DO $$ DECLARE one bigint; BEGIN FOR tx IN 1..{} LOOP
                one := tx * {SESSIONS} + {number};
                INSERT INTO parent VALUES (one, 'parent ' || one, clock_timestamp());
                INSERT INTO child SELECT one * 3 + g, one, g, md5(one::text)
                FROM generate_series(0, 2) g;
                COMMIT;
            END LOOP; END $$",
            transactions / SESSIONS
        )
    };
    Workload {
        name: "fk",
        title: "parent and 3 children (FK)",
        tables: &["parent", "child"],
        tables_sql: FAMILY_SQL,
        fill_sql: "",
        transactions_sql: (0..SESSIONS).map(session).collect(),
        rows: transactions * 4,
    }
}

/// Inserts in key order.
fn inserts(name: &'static str, title: &'static str, transactions: u64, rows: u64) -> Workload {
    let session = format!(
        "DO $$ BEGIN FOR tx IN 0..{} LOOP
            INSERT INTO entry SELECT g, g % 1000, (g % 100000) / 100.0,
                'entry ' || md5(g::text), timestamptz '2026-01-01' + g * interval '1 ms'
            FROM generate_series(tx * {rows} + 1, (tx + 1) * {rows}) g;
            COMMIT;
        END LOOP; END $$",
        transactions - 1
    );
    Workload {
        name,
        title,
        tables: &["entry"],
        tables_sql: ENTRY_SQL,
        fill_sql: "",
        transactions_sql: vec![session],
        rows: transactions * rows,
    }
}

impl Workload {
    /// Makes the tables, empty.
    pub(crate) fn create_sql(&self) -> String {
        format!("{};\nCREATE TABLE sentinel (id bigint PRIMARY KEY)", self.tables_sql)
    }

    /// Names of all tables, with commas between.
    pub(crate) fn table_list(&self) -> String {
        format!("{}, sentinel", self.tables.join(", "))
    }

    /// One row that two databases share exactly if they hold the same rows.
    pub(crate) fn digest_sql(&self) -> String {
        let one = |table: &&str| {
            format!(
                "SELECT '{table} ' || count(*) || '/' || \
                 coalesce(sum(hashtextextended(t::text, 0)), 0) AS d FROM {table} t"
            )
        };
        let all: Vec<String> = self.tables.iter().map(one).collect();
        format!(
            "SELECT string_agg(d, ' ' ORDER BY d) FROM ({}) all_tables",
            all.join(" UNION ALL ")
        )
    }
}
