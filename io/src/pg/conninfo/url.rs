//! `postgresql://user:password@host:port,host:port/database?name=value&…`
//!
//! Differs from libpq in one thing: the password ends at the *last* at-sign, so that one with an
//! at-sign in it need not be encoded.
use super::ConnInfoError;
use super::draft::Draft;

/// Splits `scheme://rest`. A list of parameters has an equal sign before any slashes.
pub(super) fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (!scheme.is_empty() && scheme.chars().all(is_scheme)).then_some((scheme, rest))
}

pub(super) fn parse(text: &str, draft: &mut Draft) -> Result<(), ConnInfoError> {
    let (rest, query) = match text.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (text, None),
    };
    let (authority, database) = match rest.split_once('/') {
        Some((authority, database)) => (authority, Some(database)),
        None => (rest, None),
    };
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => (Some(user_info), hosts),
        None => (None, authority),
    };
    if let Some(user_info) = user_info {
        let (user, password) = match user_info.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user_info, None),
        };
        if !user.is_empty() {
            draft.set("user", decoded("the user name", user)?)?;
        }
        if let Some(password) = password {
            draft.set("password", decoded("the password", password)?)?;
        }
    }
    parse_hosts(hosts, draft)?;
    if let Some(database) = database.filter(|database| !database.is_empty()) {
        if database.contains(['/', '@']) {
            // Most likely the rest of a password that contains a slash: not shown.
            let what = "a slash or an at-sign in the connection string is not percent-encoded; \
                        write \"%2F\" and \"%40\" in a password or a database name"
                .to_owned();
            return Err(ConnInfoError::Syntax { what });
        }
        draft.set("dbname", decoded("the database name", database)?)?;
    }
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|p| !p.is_empty()) {
        parse_pair(pair, draft)?;
    }
    Ok(())
}

fn parse_hosts(text: &str, draft: &mut Draft) -> Result<(), ConnInfoError> {
    if text.is_empty() {
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in text.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (name, after) = rest.split_once(']').ok_or_else(bad_host)?;
                let port = match after.strip_prefix(':') {
                    Some(port) => port,
                    None if after.is_empty() => "",
                    None => return Err(bad_host()),
                };
                (name, port)
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decoded("the host name", name)?);
        ports.push(decoded("the port", port)?);
    }
    draft.set("host", names.join(&b','))?;
    draft.set("port", ports.join(&b','))
}

fn parse_pair(pair: &str, draft: &mut Draft) -> Result<(), ConnInfoError> {
    let Some((name, value)) = pair.split_once('=') else {
        return Err(ConnInfoError::Syntax {
            what: "a query parameter of the connection string has no \"=\"".to_owned(),
        });
    };
    let name = decoded("the name of a query parameter", name)?;
    let name = String::from_utf8_lossy(&name);
    let name = match &*name {
        // Names that other clients and older libpq use.
        "database" => "dbname",
        name => name,
    };
    let value = decoded(&format!("parameter \"{name}\""), value)?;
    if name == "ssl" && value == b"true" {
        return draft.set("sslmode", b"require".to_vec());
    }
    draft.set(name, value)
}

fn bad_host() -> ConnInfoError {
    ConnInfoError::Syntax {
        what: "an IPv6 address in the connection string is written in brackets, as in [::1]:5432"
            .to_owned(),
    }
}

/// Undoes percent-encoding. A plus sign is a plus sign.
fn decoded(parameter: &str, text: &str) -> Result<Vec<u8>, ConnInfoError> {
    let error = || ConnInfoError::Percent { parameter: parameter.to_owned() };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let mut byte = *first;
        if byte == b'%' {
            let (digits, after) = after.split_first_chunk::<2>().ok_or_else(error)?;
            rest = after;
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let (high, low) = digit(digits[0]).zip(digit(digits[1])).ok_or_else(error)?;
            byte = u8::try_from(high * 16 + low).map_err(|_| error())?;
        }
        if byte == 0 {
            return Err(error());
        }
        bytes.push(byte);
    }
    Ok(bytes)
}
