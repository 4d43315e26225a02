//! A world with sockets: the program's own driver, supervisor and adapters on pretend hosts, between
//! pretend databases that speak PostgreSQL's protocol.
pub mod dial;
pub mod slot;
pub mod sql;
pub mod trace;
pub mod wire;
