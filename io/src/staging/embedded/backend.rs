//! The database's way to the disk.
use std::io;

use redb::StorageBackend;

use crate::disk::DiskFile;

/// A file as the database wants it. It needs no locks: a file beside it is locked for as long as the
/// store is open.
#[derive(Debug)]
pub(super) struct Backend<F>(pub(super) F);

impl<F: DiskFile> StorageBackend for Backend<F> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
