//! The master key's life: found or made at the start, exchanged for a new one, and what a crash leaves in between.
//!
//! A key in a file is exchanged in three steps: the new one is written beside it (`.new`) and is on disk; the store's
//! credentials are sealed under it in one transaction; it takes the file's place by a rename. Which of the two counts
//! after a crash, the store tells by the ids of the keys that its credentials were sealed under.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::key::{KeyId, MasterKey};
use super::seal::{self, Bound};
use super::{Login, VaultError, resolve};
use crate::config::Custody;

/// The keys that open what the store has.
#[derive(Debug)]
pub struct KeyRing {
    current: MasterKey,
    /// The one before, as long as the configuration names it.
    previous: Option<MasterKey>,
    /// Where the current one is, if it is in a file.
    file: Option<PathBuf>,
}

/// A key that is to be the current one.
#[derive(Debug)]
pub struct NextKey {
    key: Option<MasterKey>,
}

impl KeyRing {
    /// Reads the keys, or makes the first one. `used` are the ids under which the store's credentials are sealed.
    /// `None`: the configuration names no key.
    pub fn load(custody: &Custody, used: &[KeyId]) -> Result<Option<Self>, VaultError> {
        let Some(place) = &custody.master_key else {
            return match used.first() {
                Some(id) => Err(VaultError::NoKey { id: *id }),
                None => Ok(None),
            };
        };
        let file = place.strip_prefix("file:").map(PathBuf::from);
        if let Some(path) = &file {
            settle(path, used)?;
        }
        let current = read(place)?;
        let previous = custody.previous_master_key.as_deref().map(read).transpose()?;
        let ring = Self { current, previous, file };
        match used.iter().find(|id| ring.find(**id).is_none()) {
            Some(id) => Err(VaultError::OtherKey {
                id: *id,
                current: ring.current.id(),
                place: place.clone(),
            }),
            None => Ok(Some(ring)),
        }
    }

    /// Whether this place holds a key.
    pub fn check(place: &str) -> Result<(), VaultError> {
        read(place).map(drop)
    }

    fn find(&self, id: KeyId) -> Option<&MasterKey> {
        let keys = std::iter::once(&self.current).chain(&self.previous);
        keys.into_iter().find(|key| key.id() == id)
    }

    /// The id of the key that seals.
    pub fn id(&self) -> KeyId {
        self.current.id()
    }

    /// Seals.
    pub fn seal(&self, bound: Bound<'_>, login: &Login) -> Result<Vec<u8>, VaultError> {
        seal::seal(&self.current, bound, login)
    }

    /// Opens.
    pub fn open(&self, bound: Bound<'_>, sealed: &[u8]) -> Result<Login, VaultError> {
        let id = seal::sealed_under(sealed);
        let id = id.ok_or_else(|| VaultError::Broken(bound.name.to_owned()))?;
        let key = self.find(id).ok_or(VaultError::NoKey { id })?;
        seal::open(key, bound, sealed)
    }

    /// Makes the key that is to follow, and has it on disk. A key in the environment is changed there: what follows is
    /// then the current one, and what it replaces the previous.
    pub fn next(&self) -> Result<NextKey, VaultError> {
        let Some(file) = &self.file else {
            return if self.previous.is_some() {
                Ok(NextKey { key: None })
            } else {
                Err(VaultError::KeptElsewhere)
            };
        };
        let beside = beside(file);
        // One that a rotation before left behind was settled at the start, or that rotation failed: nothing is under it.
        remove(&beside)?;
        let key = MasterKey::generate()?;
        write(&beside, &key)?;
        Ok(NextKey { key: Some(key) })
    }

    /// Opens, and seals under the key that is to follow.
    pub fn reseal(
        &self,
        next: &NextKey,
        bound: Bound<'_>,
        sealed: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let login = self.open(bound, sealed)?;
        seal::seal(next.key.as_ref().unwrap_or(&self.current), bound, &login)
    }

    /// The key that followed is the current one: everything in the store is sealed under it.
    pub fn follow(&mut self, next: NextKey) -> Result<(), VaultError> {
        self.previous = None;
        if let (Some(key), Some(file)) = (next.key, &self.file) {
            // In memory first: what the store has is under this one, whatever becomes of the file now.
            self.current = key;
            put_in_place(file)?;
        }
        Ok(())
    }
}

/// Makes the key where there is none, and ends a rotation that a crash cut short.
fn settle(path: &Path, used: &[KeyId]) -> Result<(), VaultError> {
    let beside = beside(path);
    if beside.exists() {
        let place = |path: &Path| format!("file:{}", path.display());
        let next = read(&place(&beside));
        let is_next = next.as_ref().is_ok_and(|next| used.contains(&next.id()));
        if is_next {
            put_in_place(path)?;
            tracing::warn!(path = %path.display(), "a rotation of the master key was cut short after all was sealed anew: it is done now");
        } else if path.exists() {
            remove(&beside)?;
            tracing::warn!(path = %path.display(), "a rotation of the master key was cut short before anything was sealed anew: the key stays");
        }
    }
    if path.exists() {
        return Ok(());
    }
    if let Some(id) = used.first() {
        return Err(VaultError::Lost { path: path.to_owned(), id: *id });
    }
    let key = MasterKey::generate()?;
    write(path, &key)?;
    tracing::info!(path = %path.display(), id = %key.id(), "a master key was made; keep a copy of the file where the store's backups are not");
    Ok(())
}

fn read(place: &str) -> Result<MasterKey, VaultError> {
    let text = resolve(place)?;
    MasterKey::from_text(text.expose()).ok_or_else(|| VaultError::NotAKey(place.to_owned()))
}

/// Where a new key waits until the store is sealed under it.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn refused(path: &Path) -> impl Fn(std::io::Error) -> VaultError {
    move |source| VaultError::File { path: path.to_owned(), source }
}

/// Its owner's only from its first moment on, in the place of nothing, and on disk when this returns.
fn write(path: &Path, key: &MasterKey) -> Result<(), VaultError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(refused(path))?;
    let written = file.write_all(key.text().expose()).and_then(|()| file.sync_all());
    written.map_err(refused(path))?;
    sync_folder(path)
}

fn put_in_place(path: &Path) -> Result<(), VaultError> {
    std::fs::rename(beside(path), path).map_err(refused(path))?;
    sync_folder(path)
}

fn remove(path: &Path) -> Result<(), VaultError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(refused(path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), VaultError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused(folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::secret::Secret;

    const SHOP: Bound<'static> = Bound { name: "shop", settings: "{}" };

    fn custody(folder: &Path) -> Custody {
        let place = format!("file:{}", folder.join("master.key").display());
        Custody { master_key: Some(place), ..Custody::default() }
    }

    fn load(folder: &Path, used: &[KeyId]) -> Result<KeyRing, VaultError> {
        KeyRing::load(&custody(folder), used).map(Option::unwrap)
    }

    fn login() -> Login {
        Login { user: "rowgate".into(), password: Secret::from("hunter2") }
    }

    #[test]
    fn a_missing_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let made = load(folder.path(), &[]).unwrap().id();
        let facts = std::fs::metadata(folder.path().join("master.key")).unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, 0o600);
        assert_eq!(load(folder.path(), &[made]).unwrap().id(), made);
        assert!(KeyRing::load(&Custody::default(), &[]).unwrap().is_none());
    }

    /// A new key in the place of a lost one would make the store's credentials unreadable, and hide that they are.
    #[test]
    fn no_key_is_made_beside_a_store_that_has_one() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let used = load(other.path(), &[]).unwrap().id();
        let error = load(folder.path(), &[used]).unwrap_err().to_string();
        assert!(error.contains("master.key") && error.contains(&used.to_string()), "{error}");
        assert!(!folder.path().join("master.key").exists());
        load(folder.path(), &[]).unwrap();
        assert!(matches!(load(folder.path(), &[used]), Err(VaultError::OtherKey { .. })));
        let none = KeyRing::load(&Custody::default(), &[used]).unwrap_err();
        assert!(matches!(none, VaultError::NoKey { .. }), "{none}");
    }

    #[test]
    fn a_rotation_is_whole_wherever_a_crash_cuts_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = load(folder.path(), &[]).unwrap();
        let (old, sealed) = (ring.id(), ring.seal(SHOP, &login()).unwrap());
        let next = ring.next().unwrap();
        let resealed = ring.reseal(&next, SHOP, &sealed).unwrap();
        let new = seal::sealed_under(&resealed).unwrap();
        assert_ne!(old, new);
        // Before the transaction: the old one counts, and the new one is gone.
        let copy = copied(folder.path());
        let cut = load(copy.path(), &[old]).unwrap();
        assert_eq!(cut.open(SHOP, &sealed).unwrap().password.expose(), b"hunter2");
        assert!(cut.open(SHOP, &resealed).is_err() && !copy.path().join("master.key.new").exists());
        // Behind it: the new one.
        let copy = copied(folder.path());
        let cut = load(copy.path(), &[new]).unwrap();
        assert_eq!(cut.open(SHOP, &resealed).unwrap().password.expose(), b"hunter2");
        assert!(cut.open(SHOP, &sealed).is_err() && !copy.path().join("master.key.new").exists());
        // And when the file alone was lost meanwhile.
        let copy = copied(folder.path());
        std::fs::remove_file(copy.path().join("master.key")).unwrap();
        assert!(load(copy.path(), &[old]).is_err());
        assert_eq!(load(copy.path(), &[new]).unwrap().id(), new);
        ring.follow(next).unwrap();
        assert_eq!(ring.open(SHOP, &resealed).unwrap().user, "rowgate");
        assert!(ring.open(SHOP, &sealed).is_err(), "the old key is kept");
        assert_eq!(load(folder.path(), &[new]).unwrap().id(), new);
    }

    fn copied(folder: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["master.key", "master.key.new"] {
            std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
        copy
    }

    #[test]
    fn a_key_for_everyone_or_of_another_form_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        std::fs::write(&path, "hunter2").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = load(folder.path(), &[]).unwrap_err().to_string();
        assert!(error.contains("master.key") && !error.contains("hunter2"), "{error}");
        std::fs::write(&path, "ab".repeat(32)).unwrap();
        load(folder.path(), &[]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(folder.path(), &[]), Err(VaultError::Open { .. })));
    }
}
