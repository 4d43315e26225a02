//! Files: the one way in which the product touches a disk below `--dataDir`.
//!
//! Everything that must survive goes through [`Disk`], so that the simulator can stand in with a disk that
//! forgets what was not synced, tears writes, fills up and fails.
//!
//! All of it blocks: call it from a thread of its own or from `spawn_blocking`, never from a task.
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::SystemTime;

/// How a file is opened: for reading and writing, but for one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must be there.
    Existing,
    /// It must be there, and is only read. It may be somebody else's.
    Reading,
    /// It is made if it is not there.
    Create,
    /// Like `Create`, and what it held is gone.
    Truncate,
}

/// A file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written last.
    pub modified: SystemTime,
}

/// A disk. Clones are the same disk.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a folder and the missing ones above it; see [`make_folder`] for one that lasts. Repeating it
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn create_dir_all(&self, folder: &Path) -> io::Result<()>;

    /// Opens a file. That a new one is there lasts after [`sync_dir`](Self::sync_dir) of its folder.
    ///
    /// # Errors
    ///
    /// What the disk says; [`ErrorKind::NotFound`] if it is not there and should be.
    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File>;

    /// Gives a file another name in the same folder, in place of the file that had it. All of it or
    /// nothing, but it lasts only after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    ///
    /// What the disk says; the names are as they were.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file. Lasts after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files of a folder, in the order of their names, and those that links lead to; without its
    /// folders and without names that are not text.
    ///
    /// # Errors
    ///
    /// What the disk says; [`ErrorKind::NotFound`] if there is no such folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;

    /// Returns when the names of a folder's files are durable.
    ///
    /// # Errors
    ///
    /// What the disk says; which names are durable is unknown then.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;
}

/// An open file. Dropping it closes it and lets go of its lock.
#[expect(clippy::len_without_is_empty, reason = "a length that has to be asked for, and may fail")]
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    ///
    /// What the disk says; [`ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` from `offset` on. Durable after [`sync`](Self::sync); until then any part of
    /// it may be lost.
    ///
    /// # Errors
    ///
    /// What the disk says; [`ErrorKind::StorageFull`] if it is full. A part may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off, or makes it longer with zeros.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when all that was written is durable.
    ///
    /// # Errors
    ///
    /// What the disk says. What was written since the last sync may be lost, even if a later sync succeeds.
    fn sync(&self) -> io::Result<()>;

    /// Takes the file for this handle alone, until it is dropped. False if another one has it.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn try_lock(&self) -> io::Result<bool>;
}

/// Makes a folder and the missing ones above it, durably. Repeating it changes nothing.
///
/// # Errors
///
/// What the disk says.
pub fn make_folder<D: Disk>(disk: &D, folder: &Path) -> io::Result<()> {
    match disk.list(folder) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    let mut made = Vec::new();
    for above in folder.ancestors().skip(1) {
        made.push(above);
        if disk.list(or_here(above)).is_ok() {
            break;
        }
    }
    disk.create_dir_all(folder)?;
    made.into_iter().try_for_each(|above| disk.sync_dir(or_here(above)))
}

/// The folder above a file name without folders is the current one.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Puts a file with these bytes into a folder, in place of the one that has the name. Whatever happens,
/// there is the old one or the whole new one; the new one is durable when this returns.
///
/// It is written under the name with `.part` behind it first. A crash can leave that behind.
///
/// # Errors
///
/// What the disk says. The old file is still there, or the new one is there already and may not be durable.
pub fn put_file<D: Disk>(disk: &D, folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let part = folder.join(format!("{name}{PART}"));
    let file = disk.open(&part, Open::Truncate)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    drop(file);
    disk.rename(&part, &folder.join(name))?;
    disk.sync_dir(folder)
}

/// How the names of unfinished files end.
pub const PART: &str = ".part";

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdDisk;

impl Disk for StdDisk {
    type File = StdFile;

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<StdFile> {
        let mut options = OpenOptions::new();
        let makes = matches!(how, Open::Create | Open::Truncate);
        options.read(true).write(how != Open::Reading);
        options.create(makes).truncate(how == Open::Truncate);
        Ok(StdFile(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Whoever deletes a file meanwhile is right.
            let Ok(about) = fs::metadata(entry.path()) else { continue };
            if about.is_file() {
                found.push(Entry { name, bytes: about.len(), modified: about.modified()? });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// An open file of the operating system.
#[derive(Debug)]
pub struct StdFile(File);

impl DiskFile for StdFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        // The length is part of the data; times are not worth a second write.
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
pub(crate) mod temp;

#[cfg(test)]
mod tests {
    use super::temp::TempFolder;
    use super::{Disk, DiskFile, ErrorKind, Open, StdDisk, make_folder, put_file};

    fn names(folder: &TempFolder) -> Vec<String> {
        StdDisk.list(folder.path()).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn a_file_that_was_put_is_whole_and_alone() {
        let folder = TempFolder::new("disk-put").unwrap();
        for text in ["first, which is the longer one", "second"] {
            put_file(&StdDisk, folder.path(), "f", text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(folder.path().join("f")).unwrap(), text);
        }
        assert_eq!(names(&folder), ["f"]);
    }

    #[test]
    fn a_locked_file_is_taken_until_it_is_dropped() {
        let folder = TempFolder::new("disk-lock").unwrap();
        let open = || StdDisk.open(&folder.path().join("f"), Open::Create).unwrap();
        let (one, other) = (open(), open());
        assert!(one.try_lock().unwrap());
        assert!(!other.try_lock().unwrap());
        drop(one);
        assert!(other.try_lock().unwrap());
    }

    #[test]
    fn folders_are_made_with_those_above_them_and_again() {
        let folder = TempFolder::new("disk-folder").unwrap();
        let deep = folder.path().join("a/b/c");
        for _ in 0..2 {
            make_folder(&StdDisk, &deep).unwrap();
        }
        assert_eq!(StdDisk.list(&deep).unwrap(), []);
        assert!(names(&folder).is_empty(), "folders are not listed");
    }

    #[test]
    fn a_file_that_is_only_read_may_be_protected() {
        let folder = TempFolder::new("disk-reading").unwrap();
        let path = folder.path().join("f");
        put_file(&StdDisk, folder.path(), "f", b"abc").unwrap();
        let file = StdDisk.open(&path, Open::Reading).unwrap();
        let mut bytes = [0; 3];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abc");
        assert!(file.write_at(b"x", 0).is_err());
    }

    #[test]
    fn what_is_missing_is_said_to_be() {
        let folder = TempFolder::new("disk-missing").unwrap();
        let path = folder.path().join("f");
        let kinds = [
            StdDisk.open(&path, Open::Existing).map(drop).unwrap_err().kind(),
            StdDisk.remove(&path).unwrap_err().kind(),
            StdDisk.list(&path).map(drop).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::NotFound; 3]);
        let file = StdDisk.open(&path, Open::Create).unwrap();
        file.set_len(3).unwrap();
        assert_eq!(file.read_at(&mut [0; 4], 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(file.len().unwrap(), 3);
    }
}
