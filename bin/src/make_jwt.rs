//! The command `make-jwt`: a token for changefeeds, or the claim that somebody else signs.
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use replicator_io::auth::{Claims, SigningKey, scope};

use crate::cli::{MakeJwtFlags, Refusal};

/// Who has the token may bring rows.
const OWNER_ONLY: u32 = 0o600;

/// Why there is no token.
#[derive(Debug)]
enum NoToken {
    /// The flags do not fit each other.
    Usage(String),
    /// Something else.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NoToken {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Makes what was asked for, and returns what belongs on standard output, or what to say and the exit code.
pub(crate) fn run(flags: &MakeJwtFlags) -> Result<String, Refusal> {
    make_jwt(flags).map_err(|error| match error {
        NoToken::Usage(text) => Refusal::usage(&text),
        NoToken::Failed(error) => Refusal { text: format!("error: {error:#}\n"), code: 1 },
    })
}

/// Makes it, and writes it to its file. Returns what belongs on standard output.
fn make_jwt(flags: &MakeJwtFlags) -> Result<String, NoToken> {
    let usage = |text: String| NoToken::Usage(text);
    if flags.allow.is_empty() {
        return Err(usage("no schemas specified: name one with --allow".to_owned()));
    }
    let schemas = flags
        .allow
        .iter()
        .map(|text| scope(text).map_err(|error| usage(format!("--allow: {error}"))));
    let claims = Claims::issue(schemas.collect::<Result<_, _>>()?);
    let claims = claims.context("could not make an id for the token")?;
    let text = if flags.claim {
        serde_json::to_string_pretty(&claims).context("could not write the claim")?
    } else {
        let Some(path) = &flags.key else {
            let text = "no private key specified: name it with --key, or use --claim";
            return Err(usage(text.to_owned()));
        };
        let key = std::fs::read(path)
            .with_context(|| format!("could not read --key \"{}\"", path.display()))?;
        let key = SigningKey::from_pem(&key)
            .with_context(|| format!("cannot use --key \"{}\"", path.display()))?;
        key.sign(&claims).context("could not make the token")?
    };
    match &flags.out {
        None => Ok(text + "\n"),
        Some(path) => {
            write(path, &text)
                .with_context(|| format!("could not write --out \"{}\"", path.display()))?;
            Ok(String::new())
        }
    }
}

/// Without an end of line: the file is pasted into SQL as it is.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(OWNER_ONLY).open(path)?;
    // One that was there may be open to others.
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
