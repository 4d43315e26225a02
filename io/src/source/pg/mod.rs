//! PostgreSQL, by its logical replication.
//!
//! ```text
//! server ──► FrameReader ──► PgTransactions ──► events           PgSource::next, when there is room
//!    ▲                                            │
//!    └── FrameWriter ◄── Feedback ◄── Progress ◄──┘              a task of its own, all the time
//! ```
//!
//! Reports do not wait for reading, and reading does not wait for applying: so the server hears from us
//! while a transaction of ten minutes is on its way into the target.
pub mod feedback;
pub mod pace;
pub mod progress;
pub mod slot;
pub mod stream;
