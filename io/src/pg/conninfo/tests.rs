//! Connection strings, good and bad.
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::{ChannelBinding, ConnInfo, ConnInfoError, Host, Roots, SslMode};

fn parse(text: &str) -> ConnInfo {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    text.parse::<ConnInfo>().unwrap_err().to_string()
}

fn password(text: &str) -> Option<Vec<u8>> {
    parse(text).password.map(|password| password.expose().to_vec())
}

fn hosts(text: &str) -> Vec<(String, u16)> {
    parse(text).hosts.into_iter().map(|host| (host.name, host.port)).collect()
}

#[test]
fn a_url_has_all_its_parts() {
    let conninfo = parse(
        "postgresql://bob:a%2452%26@db.example.com:6432/shop?sslmode=verify-full\
         &sslrootcert=.%2fcerts%2fca.crt&sslcert=c.crt&sslkey=c.key&application_name=x%20y\
         &connect_timeout=3&options=-c%20work_mem%3D1MB&channel_binding=require\
         &statement_timeout=5s",
    );
    let host = Host { name: "db.example.com".to_owned(), address: None, port: 6432 };
    assert_eq!(conninfo.hosts, [host]);
    assert_eq!(conninfo.user, "bob");
    assert_eq!(conninfo.password.as_ref().unwrap().expose(), b"a$52&");
    assert_eq!(conninfo.database, "shop");
    assert_eq!(conninfo.tls.mode, SslMode::VerifyFull);
    assert_eq!(conninfo.tls.roots, Roots::File(PathBuf::from("./certs/ca.crt")));
    assert_eq!(conninfo.tls.certificate, Some(PathBuf::from("c.crt")));
    assert_eq!(conninfo.tls.key, Some(PathBuf::from("c.key")));
    assert_eq!(conninfo.tls.channel_binding, ChannelBinding::Require);
    assert_eq!(conninfo.application_name.as_deref(), Some("x y"));
    assert_eq!(conninfo.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(conninfo.options.as_deref(), Some("-c work_mem=1MB"));
    assert_eq!(conninfo.settings["statement_timeout"], "5s");
}

#[test]
fn passwords_come_through_whatever_is_in_them() {
    for (text, expected) in [
        ("postgres://u@h", None),
        ("postgres://u:@h", Some("")),
        ("postgres://u:p@h", Some("p")),
        ("postgres://u:p:q@h", Some("p:q")),
        ("postgres://u:p@q@h", Some("p@q")),
        ("postgres://u:p%40q@h", Some("p@q")),
        ("postgres://u:%2F%3f%23%25@h", Some("/?#%")),
        ("postgres://u:a+b#c@h", Some("a+b#c")),
        ("postgres://u:%C3%A4ä@h", Some("ää")),
        ("postgres://h?user=u&password=a%26b%3Dc", Some("a&b=c")),
        ("host=h user=u password=a@b/c?d", Some("a@b/c?d")),
        ("host=h user=u password='a b''", None),
        (r"host=h user=u password='it\'s \\ \x'", Some(r"it's \ x")),
        (r"host=h user=u password=a\ b", Some("a b")),
        ("host=h user=u password='' dbname=d", Some("")),
        ("host=h user=u password = a://b", Some("a://b")),
        ("host=h user=u password=a%20b", Some("a%20b")),
    ] {
        if text.contains("'a b''") {
            // The value ended before the last quote.
            assert!(text.parse::<ConnInfo>().is_err());
            continue;
        }
        let expected = expected.map(|text| text.as_bytes().to_vec());
        assert_eq!(password(text), expected, "{text}");
    }
    assert_eq!(password("postgres://u:%FF%FE@h"), Some(vec![0xFF, 0xFE]));
}

#[test]
fn hosts_and_ports_pair_up() {
    let one = |name: &str, port| vec![(name.to_owned(), port)];
    for (text, expected) in [
        ("postgresql://u@", one("localhost", 5432)),
        ("postgresql://u@/d", one("localhost", 5432)),
        ("postgresql://u@h:/d", one("h", 5432)),
        ("postgresql://u@[::1]", one("::1", 5432)),
        ("postgresql://u@[::1]:6000/d", one("::1", 6000)),
        ("postgresql://u@[fe80::1%25eth0]:6000/d", one("fe80::1%eth0", 6000)),
        ("postgresql://u@%2Fvar%2Frun%2Fpg/d", one("/var/run/pg", 5432)),
        ("postgresql://u@/d?host=/var/run/pg&port=6000", one("/var/run/pg", 6000)),
        ("host=/tmp user=u", one("/tmp", 5432)),
        ("user=u port=6000", one("localhost", 6000)),
        ("user=u host=a,b port=6000", vec![("a".to_owned(), 6000), ("b".to_owned(), 6000)]),
        (
            "postgresql://u@a,b:1,[::1]:2/d",
            vec![("a".to_owned(), 5432), ("b".to_owned(), 1), ("::1".to_owned(), 2)],
        ),
    ] {
        assert_eq!(hosts(text), expected, "{text}");
    }
    let address = parse("user=u host=db.example.com hostaddr=127.0.0.2");
    assert_eq!(address.hosts[0].name, "db.example.com");
    assert_eq!(address.hosts[0].address, Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))));
    assert_eq!(address.hosts[0].dialed(), "127.0.0.2");
    assert_eq!(parse("user=u hostaddr=127.0.0.2").hosts[0].name, "127.0.0.2");
}

#[test]
fn modes_mean_what_they_mean_to_libpq() {
    for (text, expected) in [
        ("postgres://u@h", SslMode::Prefer),
        ("postgres://u@h?sslmode=", SslMode::Prefer),
        ("postgres://u@h?sslmode=disable", SslMode::Disable),
        ("postgres://u@h?sslmode=allow", SslMode::Allow),
        ("postgres://u@h?sslmode=require", SslMode::Require),
        ("postgres://u@h?ssl=true", SslMode::Require),
        ("host=h user=u sslmode=verify-ca", SslMode::VerifyCa),
        ("host=h user=u sslrootcert=system", SslMode::VerifyFull),
    ] {
        assert_eq!(parse(text).tls.mode, expected, "{text}");
    }
    assert_eq!(
        error("host=h user=u sslrootcert=system sslmode=require"),
        "parameter \"sslmode\" must be \"verify-full\" with sslrootcert=system"
    );
    assert_eq!(
        error("postgres://u@h?sslmode=on"),
        "parameter \"sslmode\" must be disable, allow, prefer, require, verify-ca or verify-full"
    );
}

#[test]
fn the_database_is_named_after_the_user_unless_told_otherwise() {
    assert_eq!(parse("postgres://bob@h").database, "bob");
    assert_eq!(parse("postgres://bob@h/").database, "bob");
    assert_eq!(parse("postgres://bob@h/My%20Db").database, "My Db");
    assert_eq!(parse("postgres://bob@h/a?dbname=b").database, "b");
    assert_eq!(parse("postgres://bob@h/a?database=b").database, "b");
}

#[test]
fn what_nobody_should_see_is_not_shown() {
    let nasty = "hunter2";
    for text in [
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2%@h/d",
        "postgres://u:hunter2%zz@h/d",
        "postgres://u:hunter2@[::1/d",
        "postgres://u:hunter2@h/d?sslmode=hunter2",
        "postgres://u:hunter2@h/d?hunter2",
        "postgres://u:hunter2@h/d?connect_timeout=hunter2",
        "postgres://u:x/hunter2@h/d",
        "postgres://u:1/hunter2@h/d",
        "mysql://u:hunter2@h/d",
        "host=h user=u password=a hunter2",
        "host=h user=u password=a hunter2!=x",
        "host=h user=u password='hunter2",
        "host=h user=u password=hunter2 port=x",
        "hunter2",
    ] {
        assert!(!error(text).contains(nasty), "{text}: {}", error(text));
    }
    let conninfo = parse("postgres://u:hunter2@h/d");
    let shown = format!("{conninfo} {conninfo:?} {}", conninfo.password.as_ref().unwrap());
    assert!(!shown.contains(nasty) && shown.contains("***"), "{shown}");
    assert_eq!(conninfo.to_string(), "user=u database=d host=h port=5432");
}

#[test]
fn errors_name_the_parameter() {
    for (text, expected) in [
        (
            "mysql://u@h",
            "unknown scheme \"mysql\"; a connection string begins with \"postgresql://\"",
        ),
        ("postgres://u@h:0", "parameter \"port\" must be a number from 1 through 65535"),
        ("postgres://u@h:65536", "parameter \"port\" must be a number from 1 through 65535"),
        ("postgres://u@h?sslcert=x", "parameter \"sslkey\" is missing"),
        ("postgres://u@h?sslkey=x", "parameter \"sslcert\" is missing"),
        ("postgres://u@h?sslcrl=x", "parameter \"sslcrl\" is not supported"),
        ("postgres://u@h?hostaddr=x", "parameter \"hostaddr\" must be an IP address"),
        (
            "postgres://u@h?target_session_attrs=standby",
            "parameter \"target_session_attrs\" must be \"any\"",
        ),
        (
            "user=u host=a,b port=1,2,3",
            "parameter \"port\" must be one number, or as many as there are hosts",
        ),
        (
            "host=h user=u password=my word",
            "expected name=value after parameter \"password\"; a value with spaces is written in \
             single quotes",
        ),
        (
            "postgres://u:50%@h",
            "the password is not percent-encoded correctly; write a percent sign itself as \"%25\"",
        ),
        (
            "postgres://u@h?options=%0",
            "parameter \"options\" is not percent-encoded correctly; write a percent sign itself \
             as \"%25\"",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    let zero = "postgres://u:a%00b@h".parse::<ConnInfo>().unwrap_err();
    assert_eq!(zero, ConnInfoError::Percent { parameter: "the password".to_owned() });
}

#[test]
fn parameters_without_effect_are_accepted_and_go_nowhere() {
    let conninfo = parse(
        "postgres://u@h?keepalives_idle=5&gssencmode=disable&client_encoding=LATIN1&Work_Mem=1MB",
    );
    assert_eq!(
        conninfo.settings.into_iter().collect::<Vec<_>>(),
        [("work_mem".to_owned(), "1MB".to_owned())]
    );
}
