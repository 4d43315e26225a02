//! Checks of single values. What is wrong is said with the flag's name and the way out.
use std::time::Duration;

use thiserror::Error;

use crate::cli::GoDuration;

/// A flag has a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("--{flag} {wrong}")]
pub(crate) struct UsageError {
    flag: &'static str,
    wrong: String,
}

impl UsageError {
    /// `wrong` goes on after the flag: "must be …".
    pub(super) fn new(flag: &'static str, wrong: impl Into<String>) -> Self {
        Self { flag, wrong: wrong.into() }
    }
}

/// A number of things: zero stands for the default, as documented.
pub(super) fn count(flag: &'static str, value: i64, default: u32) -> Result<u32, UsageError> {
    match u32::try_from(value) {
        Ok(0) => Ok(default),
        Ok(value) => Ok(value),
        Err(_) if value < 0 => Err(UsageError::new(
            flag,
            format!("must not be negative; leave it out for the default of {default}"),
        )),
        Err(_) => Err(UsageError::new(flag, format!("must be at most {}", u32::MAX))),
    }
}

/// A time: zero stands for the default, as documented.
pub(super) fn time(
    flag: &'static str,
    value: GoDuration,
    default: Duration,
) -> Result<Duration, UsageError> {
    let value = not_negative(flag, value)?;
    Ok(if value.is_zero() { default } else { value })
}

/// A time that may be zero.
pub(super) fn not_negative(flag: &'static str, value: GoDuration) -> Result<Duration, UsageError> {
    value.unsigned().ok_or_else(|| UsageError::new(flag, "must not be negative"))
}

/// A flag that may be left out. An empty text is as good as none: scripts pass variables that are not
/// set.
pub(super) fn given(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// A text that must say something.
pub(super) fn not_empty(flag: &'static str, value: &str) -> Result<String, UsageError> {
    if value.trim().is_empty() {
        return Err(UsageError::new(flag, "must not be empty"));
    }
    Ok(value.to_owned())
}

/// For where 32 bits of a count become a size in memory.
pub(super) fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
