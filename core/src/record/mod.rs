//! Recordings of runs: everything that machines were told, and what they answered.
//!
//! Same events, same effects: so a recording can be played again, on another computer and without any
//! database, and a machine that answers otherwise is found at its first step.
//!
//! ```text
//! recording = MAGIC frame*
//! frame     = length:u32 payload checksum:u32        big endian; SipHash of the payload
//! payload   = 1 version hashed                       the recording begins
//!           | 2 config catalog durable time          a machine is resumed
//!           | 3 time event                           it is told something
//!           | 4 (line digest)* stops stands          it has answered
//!           | 5 why                                  nothing more is recorded
//! ```
//!
//! Numbers are seven bits to a byte, lowest first; texts and lists begin with their length. An event is
//! written before the machine gets it, so that one over which it breaks is there. A recording may end
//! anywhere: whole frames can be played.
//!
//! Values of rows are hidden unless asked otherwise, see `hide`.
mod answer;
mod frame;
mod hide;
mod image;
mod nouns;
mod player;
mod recorder;
mod rows;
mod sip;
mod wire;

pub use self::answer::{Answer, Said, Stands};
pub use self::frame::{Ending, FILLED_BYTES_MAX, Reader, Record, Resumed};
pub use self::player::{Difference, Played, Player};
pub use self::recorder::{Recorder, TooLarge, Values};
pub use self::wire::{FRAME_BYTES_MAX, MAGIC, RecordError, Split, split};

#[cfg(test)]
mod tests;
