//! Sessions with MySQL and MariaDB.
//!
//! The driver opens its sockets itself, so these connections do not go through [`net`](crate::net), and
//! worlds of the simulator replace the target as a whole.
pub mod conninfo;
pub mod pool;
pub mod server;
pub mod session;
