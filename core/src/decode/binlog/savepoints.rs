//! The savepoints of one transaction, by numbers that are used again.
use alloc::string::String;
use alloc::vec::Vec;

use super::transaction_error::TransactionError;

/// Which savepoints there are.
#[derive(Clone, Debug)]
pub(super) struct Savepoints {
    // By number; an empty name is a number that is free.
    names: Vec<Vec<u8>>,
}

impl Savepoints {
    pub(super) const fn new() -> Self {
        Self { names: Vec::new() }
    }

    /// Gives a savepoint a number: that of an earlier one of its name, which is gone.
    pub(super) fn set(&mut self, name: Vec<u8>, limit: usize) -> Result<usize, TransactionError> {
        let find = |wanted: &[u8]| self.names.iter().position(|name| name == wanted);
        let number = find(&name).or_else(|| find(&[])).unwrap_or(self.names.len());
        if limit <= number {
            return Err(TransactionError::SavepointsTooMany { limit });
        }
        match self.names.get_mut(number) {
            Some(place) => *place = name,
            None => self.names.push(name),
        }
        Ok(number)
    }

    pub(super) fn find(&self, wanted: &[u8]) -> Result<usize, TransactionError> {
        let number = self.names.iter().position(|name| name == wanted && !name.is_empty());
        let name = || String::from_utf8_lossy(wanted).into_owned();
        number.ok_or_else(|| TransactionError::NoSavepoint { name: name() })
    }

    pub(super) fn release(&mut self, name: &[u8]) -> Result<(), TransactionError> {
        let number = self.find(name)?;
        if let Some(name) = self.names.get_mut(number) {
            name.clear();
        }
        Ok(())
    }
}
