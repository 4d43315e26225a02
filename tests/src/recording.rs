//! Recordings that the product made of itself, played again on the machine of this build.
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use replicator_core::record::{FILLED_BYTES_MAX, MAGIC, Played, Player, Reader, Split, split};

/// Plays a recording to its end, which may be in the middle of a frame: the product is killed now and then.
/// `sim replay` does the same, and says more.
///
/// # Errors
///
/// It cannot be read, or a machine answers otherwise than it did.
///
/// # Panics
///
/// The machine does.
pub fn replay(file: &Path) -> Result<Played> {
    let shown = file.display();
    let bytes = fs::read(file).with_context(|| format!("could not read {shown}"))?;
    let mut rest = bytes.strip_prefix(MAGIC).with_context(|| format!("{shown} is no recording"))?;
    let mut reader = Reader::new(FILLED_BYTES_MAX);
    let mut player = Player::default();
    while let Split::Frame { payload, used } = split(rest)? {
        let record = reader.read(payload).with_context(|| format!("{shown} is malformed"))?;
        let played = player.play(record);
        played.map_err(|difference| anyhow!("{shown} replays otherwise: {difference}"))?;
        rest = &rest[used..];
    }
    Ok(player.played())
}
