//! What a real CockroachDB sent goes to PostgreSQL: in order, and, into another database, shuffled and twice.
use anyhow::{Context as _, Result, ensure};
use replicator_core::model::time::Hlc;
use replicator_tests::compare;
use replicator_tests::postgres::{self, Options, Server};
use replicator_tests::random::Random;
use serde_json::Value;
use tokio_postgres::Client;

use super::{Folder, Running};

/// See `about` in the file.
const FILE: &str = include_str!("../../../core/tests/changefeed/vectors.json");

/// From one promise to the next, while rows come shuffled.
const WINDOWS: usize = 5;
/// The largest request.
const ROWS_MAX: u64 = 40;

/// Types by their other names. What PostgreSQL has not at all makes it refuse the table.
const NAMES: [(&str, &str); 4] =
    [("STRING COLLATE en", "TEXT"), ("STRING", "TEXT"), ("BYTES", "BYTEA"), (" DESC", "")];

const MOOD: &str = "CREATE TYPE mood AS ENUM ('sad', 'naïve', 'it''s \"q\"')";

/// A row as it was sent.
#[derive(Clone, Debug)]
struct Line {
    time: Hlc,
    text: String,
}

/// Makes the tables that PostgreSQL can have, and finds the rows of these.
async fn create(client: &Client) -> Result<Vec<Line>> {
    client.batch_execute(MOOD).await?;
    let file: Value = serde_json::from_str(FILE)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for case in list(&file["cases"]) {
        let ddl: Vec<Value> = list(&case["ddl"]).into_iter().chain([case["ddl"].clone()]).collect();
        let ddl: Vec<&str> = ddl.iter().filter_map(Value::as_str).collect();
        let mut ddl = ddl.join(";\n");
        for (theirs, ours) in NAMES {
            ddl = ddl.replace(theirs, ours);
        }
        // Rows of a table without a key are told apart by a column that is not there, and numbers of objects
        // are of no use to another server.
        let foreign = !ddl.contains("primary key") || ddl.contains("REGCLASS");
        if foreign || client.batch_execute(&ddl).await.is_err() {
            continue;
        }
        for line in list(&case["output"]["topic_in_value"]) {
            let text = line["value"].as_str().context("a row is text")?.to_owned();
            // Not parsed as a whole: some numbers are larger than a parser takes.
            let (_, time) = text.rsplit_once("\"updated\": \"").context("a row has a time")?;
            let time: Hlc = time.trim_end_matches("\"}").parse()?;
            // PostgreSQL has no such character.
            if !text.contains("\\u0000") {
                lines.push(Line { time, text });
            }
        }
    }
    lines.sort_by_key(|line| line.time);
    Ok(lines)
}

/// Each transaction by itself, in order.
async fn once(running: &Running, lines: &[Line]) -> Result<()> {
    for tx in lines.chunk_by(|one, other| one.time == other.time) {
        let rows: Vec<String> = tx.iter().map(|line| line.text.clone()).collect();
        running.bring(&rows).await?;
        running.promise(tx[0].time).await?;
    }
    Ok(())
}

/// In any order between two promises, older ones again among them, and in the end all of them again.
async fn twice(running: &Running, lines: &[Line], random: &mut Random) -> Result<()> {
    let mut sent = 0;
    for window in 1..=WINDOWS {
        let mut end = lines.len() * window / WINDOWS;
        // A promise is about whole transactions.
        while 0 < end && end < lines.len() && lines[end - 1].time == lines[end].time {
            end += 1;
        }
        let mut rows: Vec<&Line> = lines[sent..end].iter().collect();
        rows.extend(lines[..sent].iter().filter(|_| random.chance(30)));
        bring_shuffled(running, rows, random).await?;
        running.promise(lines[end - 1].time).await?;
        sent = end;
    }
    bring_shuffled(running, lines.iter().collect(), random).await?;
    running.promise(lines[lines.len() - 1].time.next()).await
}

async fn bring_shuffled(
    running: &Running,
    mut rows: Vec<&Line>,
    random: &mut Random,
) -> Result<()> {
    for last in (1..rows.len()).rev() {
        rows.swap(last, random.index(last + 1));
    }
    while !rows.is_empty() {
        let some = rows.len().min(usize::try_from(random.between(1, ROWS_MAX))?);
        let some: Vec<String> = rows.drain(..some).map(|line| line.text.clone()).collect();
        running.bring(&some).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_real_server_sent_arrives_whatever_its_order_and_however_often() -> Result<()> {
    let server = Server::start(postgres::major()?, &Options::default())?;
    let (ordered, shuffled) =
        (server.create_database("ordered").await?, server.create_database("shuffled").await?);
    let lines = create(&ordered).await?;
    ensure!(lines.len() == create(&shuffled).await?.len(), "both have the same tables");
    ensure!(450 < lines.len(), "only {} rows", lines.len());

    let folders = [Folder::new("ordered"), Folder::new("shuffled")];
    let start = async |index: usize, name: &str| {
        let path = format!("/{name}/public");
        Running::start(&server.conninfo(name), &path, &folders[index].0).await
    };
    let (one, other) = (start(0, "ordered").await?, start(1, "shuffled").await?);
    once(&one, &lines).await?;
    twice(&other, &lines, &mut Random::new(11)).await?;
    // What was promised is applied before the end.
    one.stop().await?;
    other.stop().await?;

    let mut comparison = compare::tables(&ordered, &shuffled, "public").await?;
    ensure!(comparison.is_identical(), "{comparison}{}", complaints(&server)?);
    comparison.tables.retain(|table| 0 < table.identical);
    let (tables, rows) = (comparison.tables.len(), comparison.identical());
    ensure!(70 < tables && 250 < rows, "only {rows} rows in {tables} tables");
    Ok(())
}

/// What the server complained about.
fn complaints(server: &Server) -> Result<String> {
    let log = std::fs::read_to_string(server.log())?;
    let errors = log.lines().filter(|line| line.contains("ERROR") || line.contains("STATEMENT"));
    Ok(errors.map(|line| format!("{line:.300}\n")).collect::<Vec<String>>().concat())
}
