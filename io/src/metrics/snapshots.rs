//! Files with all metrics, for support: each is there whole or not at all, and the oldest go.
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::disk::{Disk, Entry, PART, make_folder, put_file};

/// A folder with snapshots. Blocks; see [`crate::disk`].
#[derive(Clone, Debug)]
pub struct SnapshotFolder<D> {
    /// Where the folder is kept.
    pub disk: D,
    /// Where it is.
    pub path: PathBuf,
    /// Older snapshots are deleted.
    pub age_max: Option<Duration>,
    /// The oldest snapshots beyond this, in bytes, are deleted.
    pub bytes_max: Option<u64>,
}

/// A snapshot could not be written or deleted.
#[derive(Debug, Error)]
#[error("could not {what} {}", path.display())]
pub struct SnapshotError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError { what, path: path.to_owned(), source }
}

impl<D: Disk> SnapshotFolder<D> {
    /// Makes the folder if it is not there.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn prepare(&self) -> Result<(), SnapshotError> {
        make_folder(&self.disk, &self.path).map_err(failed("make the folder", &self.path))
    }

    /// Writes a snapshot. `name` is `snapshot-`, a time that sorts, and `Z.txt` or `Z.txt.gz`.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`]. Nobody will see a part of it under its name.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SnapshotError> {
        let written = put_file(&self.disk, &self.path, name, bytes);
        written.map_err(failed("write", &self.path.join(name)))
    }

    /// Deletes the oldest snapshots: those that are too old, and those beyond the size. The newest one
    /// stays, whatever its size: a limit that small asks for one. Deletes what crashes left unfinished,
    /// too, but only files that we named.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn prune(&self, now: SystemTime) -> Result<(), SnapshotError> {
        let files = self.disk.list(&self.path).map_err(failed("read", &self.path))?;
        let unfinished = files.iter().filter(|file| is_unfinished(file));
        unfinished.map(|file| self.remove(file)).collect::<Result<Vec<()>, _>>()?;
        let mut kept = Vec::new();
        // Oldest first: the names hold the time.
        for file in files.iter().filter(|file| is_snapshot(file)) {
            let age = now.duration_since(file.modified).unwrap_or(Duration::ZERO);
            match self.age_max {
                Some(age_max) if age_max < age => self.remove(file)?,
                Some(_) | None => kept.push(file),
            }
        }
        let Some(bytes_max) = self.bytes_max else { return Ok(()) };
        let mut bytes = 0_u64;
        for (index, file) in kept.into_iter().rev().enumerate() {
            bytes = bytes.saturating_add(file.bytes);
            if index > 0 && bytes > bytes_max {
                self.remove(file)?;
            }
        }
        Ok(())
    }

    fn remove(&self, file: &Entry) -> Result<(), SnapshotError> {
        let path = self.path.join(&file.name);
        self.disk.remove(&path).map_err(failed("delete", &path))
    }
}

fn is_snapshot(file: &Entry) -> bool {
    file.name.starts_with("snapshot-")
        && (file.name.ends_with("Z.txt") || file.name.ends_with("Z.txt.gz"))
}

fn is_unfinished(file: &Entry) -> bool {
    file.name.starts_with("snapshot") && file.name.ends_with(PART)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::SnapshotFolder;
    use crate::disk::temp::TempFolder;
    use crate::disk::{Disk, StdDisk};

    fn folder(path: &Path) -> SnapshotFolder<StdDisk> {
        let (age_max, bytes_max) = (Some(Duration::from_secs(3_600)), Some(250));
        SnapshotFolder { disk: StdDisk, path: path.to_owned(), age_max, bytes_max }
    }

    fn names(path: &Path) -> Vec<String> {
        StdDisk.list(path).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn old_and_excess_snapshots_are_deleted_and_nothing_else() {
        let temp = TempFolder::new("snapshot-prune").unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        for (name, age) in [
            ("snapshot-20260101T000000.000Z.txt.gz", 4_000),
            ("snapshot-20260101T010000.000Z.txt.gz", 30),
            ("snapshot-20260101T020000.000Z.txt.gz", 20),
            ("snapshot-20260101T030000.000Z.txt", 10),
            ("snapshot-20260101T040000.000Z.txt.part", 5),
            ("snapshot.part", 5),
            ("notes.txt", 9_000),
        ] {
            let file = File::create(temp.path().join(name)).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        let folder = folder(temp.path());
        folder.prune(now).unwrap();
        let kept = [
            "notes.txt",
            "snapshot-20260101T020000.000Z.txt.gz",
            "snapshot-20260101T030000.000Z.txt",
        ];
        assert_eq!(names(temp.path()), kept);
        let tiny = SnapshotFolder { bytes_max: Some(1), ..folder };
        tiny.prune(now).unwrap();
        assert_eq!(names(temp.path()), ["notes.txt", "snapshot-20260101T030000.000Z.txt"]);
    }

    #[test]
    fn an_error_names_the_file() {
        let temp = TempFolder::new("snapshot-error").unwrap();
        let folder = folder(&temp.path().join("missing"));
        let error = folder.write("snapshot-1Z.txt", b"").unwrap_err();
        assert!(error.to_string().ends_with("missing/snapshot-1Z.txt"), "{error}");
        folder.prepare().unwrap();
        folder.write("snapshot-1Z.txt", b"").unwrap();
        assert_eq!(names(&folder.path), ["snapshot-1Z.txt"]);
    }
}
