//! The nouns. Plain values with no behaviour beyond ordering, parsing and printing.
pub mod catalog;
pub mod fk;
pub mod gtid;
pub mod ident;
pub mod key;
pub mod mode;
pub mod mutation;
pub mod mysql;
pub mod position;
pub mod row;
pub mod time;
