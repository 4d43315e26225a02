//! What the MySQL target promises, on a real MySQL and a real MariaDB.
mod bench;
mod faults;
mod order;
mod progress;
mod values;
