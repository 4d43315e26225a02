//! Public keys and revoked tokens as files below `--dataDir`, beside the staging file.
//!
//! ```text
//! jwt/keys/*.pem   public keys, one or more in each file
//! jwt/revoked      ids of void tokens, one on each line; a line that begins with # is a remark
//! ```
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::keyring::{Material, PublicKeyText};
use super::keys::TEXT_BYTES_MAX;
use super::reload::{KeySource, KeySourceError};
use crate::disk::{Disk, DiskFile as _, Open};

/// The folder of public keys, below `--dataDir`.
pub const KEYS_FOLDER: &str = "jwt/keys";

/// The file of revoked tokens, below `--dataDir`.
pub const REVOKED_FILE: &str = "jwt/revoked";

/// How the names of files with public keys end.
const KEY_FILE: &str = ".pem";

/// Files that are looked at. There is room for fewer keys.
const FILES_MAX: usize = 256;

/// Of the file of revoked tokens: over a hundred thousand of them.
const REVOKED_BYTES_MAX: usize = 8 << 20;

/// Reads keys from files.
#[derive(Clone, Debug)]
pub struct FileKeys<D> {
    disk: D,
    folder: PathBuf,
}

impl<D: Disk> FileKeys<D> {
    /// Keys below `folder`, which is that of `--dataDir`.
    pub fn new(disk: D, folder: PathBuf) -> Self {
        Self { disk, folder }
    }

    fn read(&self) -> Result<Material, KeySourceError> {
        let mut material = Material { revoked: self.revoked()?, ..Material::default() };
        let folder = self.folder.join(KEYS_FOLDER);
        let files = match self.disk.list(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(material),
            Err(source) => return Err(KeySourceError::Disk { path: folder, source }),
        };
        if FILES_MAX < files.len() {
            return Err(KeySourceError::Many { path: folder, limit: FILES_MAX });
        }
        // Names that begin with a dot are made by editors and mounts.
        for name in files.into_iter().map(|file| file.name).filter(|name| !name.starts_with('.')) {
            let path = folder.join(&name);
            let place = format!("\"{}\"", path.display());
            if !name.ends_with(KEY_FILE) {
                let complaint = format!("{place} is ignored: its name does not end in {KEY_FILE}");
                material.complaints.push(complaint);
                continue;
            }
            match self.file(&path, TEXT_BYTES_MAX) {
                Ok(text) => material.keys.push(PublicKeyText { place, text }),
                // Deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => (),
                Err(error) => material.complaints.push(format!("{place} is ignored: {error}")),
            }
        }
        Ok(material)
    }

    /// Any trouble with it fails all of the reading: what was revoked must stay so.
    fn revoked(&self) -> Result<BTreeSet<String>, KeySourceError> {
        let path = self.folder.join(REVOKED_FILE);
        let bytes = match self.file(&path, REVOKED_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(source) => return Err(KeySourceError::Disk { path, source }),
        };
        let Ok(text) = String::from_utf8(bytes) else {
            return Err(KeySourceError::NotText { path });
        };
        let lines = text.lines().map(str::trim);
        let ids = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(ids.map(str::to_owned).collect())
    }

    fn file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let file = self.disk.open(path, Open::Reading)?;
        let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if bytes_max < length {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let mut bytes = vec![0; length];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl<D: Disk> KeySource for FileKeys<D> {
    fn hint(&self) -> String {
        let folder = self.folder.join(KEYS_FOLDER);
        format!("put a public key in PEM into \"{}/NAME{KEY_FILE}\"", folder.display())
    }

    async fn load(&mut self) -> Result<Material, KeySourceError> {
        let keys = self.clone();
        let read = tokio::task::spawn_blocking(move || keys.read()).await;
        read.unwrap_or(Err(KeySourceError::Died))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{FileKeys, KEYS_FOLDER, REVOKED_FILE};
    use crate::auth::reload::{KeySource as _, KeySourceError};
    use crate::disk::StdDisk;
    use crate::disk::temp::TempFolder;

    fn keys(folder: &TempFolder) -> FileKeys<StdDisk> {
        FileKeys::new(StdDisk, folder.path().to_owned())
    }

    fn put(folder: &TempFolder, name: &str, text: impl AsRef<[u8]>) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn nothing_there_is_nothing() {
        let folder = TempFolder::new("auth-nothing").unwrap();
        let material = keys(&folder).load().await.unwrap();
        assert_eq!(material, super::Material::default());
        assert!(keys(&folder).hint().contains("jwt/keys/NAME.pem"));
    }

    #[tokio::test]
    async fn keys_and_revoked_tokens_are_read() {
        let folder = TempFolder::new("auth-read").unwrap();
        put(&folder, &format!("{KEYS_FOLDER}/one.pem"), "1");
        put(&folder, &format!("{KEYS_FOLDER}/two.pem"), "2");
        put(&folder, &format!("{KEYS_FOLDER}/.hidden.pem"), "3");
        put(&folder, &format!("{KEYS_FOLDER}/three.pub"), "4");
        put(&folder, &format!("{KEYS_FOLDER}/huge.pem"), "x".repeat(20_000));
        fs::create_dir(folder.path().join(KEYS_FOLDER).join("folder.pem")).unwrap();
        // A mounted secret is a link.
        let (link, file) = (folder.path().join(KEYS_FOLDER).join("link.pem"), Path::new("one.pem"));
        std::os::unix::fs::symlink(file, link).unwrap();
        put(&folder, REVOKED_FILE, "# remark\n\n one \r\ntwo\ntwo\n#three");
        let material = keys(&folder).load().await.unwrap();
        let texts: Vec<&[u8]> = material.keys.iter().map(|key| key.text.as_slice()).collect();
        assert_eq!(texts, [b"1", b"1", b"2"]);
        assert!(material.keys[0].place.ends_with("jwt/keys/link.pem\""), "{material:?}");
        assert_eq!(material.revoked.iter().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(material.complaints.len(), 2, "{:?}", material.complaints);
    }

    #[tokio::test]
    async fn revoked_tokens_that_cannot_be_read_fail_all() {
        let folder = TempFolder::new("auth-revoked").unwrap();
        put(&folder, &format!("{KEYS_FOLDER}/one.pem"), "1");
        put(&folder, REVOKED_FILE, [0xFF, b'\n']);
        let failed = keys(&folder).load().await.unwrap_err();
        assert!(matches!(failed, KeySourceError::NotText { .. }), "{failed}");
        put(&folder, REVOKED_FILE, vec![b'x'; (8 << 20) + 1]);
        let failed = keys(&folder).load().await.unwrap_err();
        assert!(matches!(failed, KeySourceError::Disk { .. }), "{failed}");
    }
}
