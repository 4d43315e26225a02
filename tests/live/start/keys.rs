//! Who may call, by tables of the staging database.
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::pair::DATABASE;
use replicator_tests::product::program;
use replicator_tests::wait_until;

use super::{LIMIT, open, run};

/// The keys of those who may call are in tables of the staging database, as documented.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_keys_and_revoked_tokens_in_tables_are_heeded_at_once() -> Result<()> {
    let shop = open("keys").await?;
    let folder = shop.folder();
    std::fs::create_dir_all(folder)?;
    let openssl = |line: &str| {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        run(Path::new("openssl"), &arguments, folder)
    };
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key")?;
    openssl("pkey -in rsa.key -pubout -out rsa.pem")?;
    let allowed = format!("{DATABASE}.public");
    run(&program()?, &["make-jwt", "-k", "rsa.key", "-a", &allowed, "-o", "out.jwt"], folder)?;
    let token = std::fs::read_to_string(folder.join("out.jwt"))?.trim().to_owned();

    let (staging, client) = shop.staging().await?;
    let mut replicator = shop.replicator(&["--stagingConn", &staging, "--stagingCreateSchema"])?;
    let place = Where { token: Some(token.clone()), ..shop.place() };
    // What it brings is refused, but only after whoever brings it was let in.
    // Then keys are read again, if that is asked for.
    let mut answers = async |wanted: u16, then: Option<&str>| {
        wait_until(LIMIT, &format!("the answer is {wanted}"), async || {
            replicator.must_run()?;
            let answer = Caller::new(place.clone()).post("[]").await;
            Ok(matches!(answer, Ok((status, _)) if status == wanted))
        })
        .await?;
        then.map_or(Ok(()), |signal| replicator.signal(signal))
    };
    answers(401, None).await?;
    let key = std::fs::read_to_string(folder.join("rsa.pem"))?;
    let put = "INSERT INTO _replicator.jwt_public_keys (public_key) VALUES ($1), ('no key')";
    client.execute(put, &[&key]).await?;
    answers(401, Some("HUP")).await?;
    answers(400, None).await?;
    let id = jti(&token)?;
    client.execute("INSERT INTO _replicator.jwt_revoked_ids VALUES ($1)", &[&id]).await?;
    answers(400, Some("HUP")).await?;
    answers(401, None).await
}

/// A token in the query is as good as one in the header, and at no level of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_a_token_in_the_query_opens_and_is_not_logged() -> Result<()> {
    let shop = open("query").await?;
    let folder = shop.folder();
    std::fs::create_dir_all(folder.join("jwt/keys"))?;
    let openssl = |line: &str| {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        run(Path::new("openssl"), &arguments, folder)
    };
    openssl("ecparam -out ec.key -genkey -name prime256v1 -noout")?;
    openssl("ec -in ec.key -pubout -out jwt/keys/shop.pem")?;
    let allowed = format!("{DATABASE}.public");
    run(&program()?, &["make-jwt", "-k", "ec.key", "-a", &allowed, "-o", "out.jwt"], folder)?;
    let token = std::fs::read_to_string(folder.join("out.jwt"))?.trim().to_owned();
    let mut replicator = shop.replicator(&["-vv"])?;
    let path = |token: &str| format!("{}?access_token={token}", shop.place().path);
    for (token, status) in [(&token, 400), (&token[..token.len() - 4].to_owned(), 401)] {
        let place = Where { path: path(token), ..shop.place() };
        wait_until(LIMIT, &format!("the answer is {status}"), async || {
            replicator.must_run()?;
            let answer = Caller::new(place.clone()).post("[]").await;
            Ok(matches!(answer, Ok((had, _)) if had == status))
        })
        .await?;
    }
    let log = replicator.log()?;
    let secret = token.split('.').nth(2).context("a token without a signature")?;
    ensure!(!log.contains(&secret[..20]) && !log.contains("access_token"), "{log}");
    Ok(())
}

/// The id of a token.
fn jti(token: &str) -> Result<String> {
    let claims = token.split('.').nth(1).context("a token without claims")?;
    let padding = "=".repeat(claims.len().next_multiple_of(4) - claims.len());
    let claims = claims.replace('-', "+").replace('_', "/") + &padding;
    let decode = format!("printf %s '{claims}' | openssl base64 -d -A");
    let claims = Command::new("sh").args(["-c", &decode]).output()?.stdout;
    let claims: serde_json::Value = serde_json::from_slice(&claims)?;
    Ok(claims["jti"].as_str().context("a token without an id")?.to_owned())
}
