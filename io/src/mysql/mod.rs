//! Sessions with MySQL and MariaDB.
//!
//! The driver for targets opens its sockets itself, so these connections do not go through
//! [`net`](crate::net), and worlds of the simulator replace the target as a whole. A source is read by a
//! session of ours ([`replica`]), over any stream.
pub mod conninfo;
pub mod login;
pub mod packets;
pub mod pool;
pub mod replica;
pub mod server;
pub mod session;
