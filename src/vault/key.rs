//! The master key: 32 bytes on a page of their own, which is not swapped, not dumped, and wiped at its end.

use aws_lc_rs::rand::SecureRandom as _;
use base64::Engine as _;
use zeroize::Zeroize as _;

use super::VaultError;
use crate::secret::Secret;

/// What XChaCha20 takes.
const KEY_BYTES: usize = 32;

/// The usual size; where pages are larger, the rest of this one holds something else that is locked as well.
const PAGE_BYTES: usize = 4_096;

/// Which key sealed something: a digest of the key, of which nothing can be learnt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(super) [u8; 8]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// A master key.
pub struct MasterKey {
    page: Box<Page>,
    id: KeyId,
}

impl MasterKey {
    /// A new one.
    pub fn generate() -> Result<Self, VaultError> {
        let mut page = Box::new(Page([0; PAGE_BYTES]));
        lock(&page);
        let random = aws_lc_rs::rand::SystemRandom::new().fill(&mut page.0[..KEY_BYTES]);
        random.map_err(|_| VaultError::NoRandomness)?;
        Ok(Self::on(page))
    }

    /// The one that this text is: 64 hexadecimal digits, or base64. `None`: it is none.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let mut page = Box::new(Page([0; PAGE_BYTES]));
        lock(&page);
        let key = &mut page.0[..KEY_BYTES];
        if text.len() == 2 * KEY_BYTES {
            for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
                let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
                *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
            }
        } else {
            let standard = base64::engine::general_purpose::STANDARD;
            let exact = text.len() == KEY_BYTES.div_ceil(3) * 4;
            let read = exact.then(|| standard.decode_slice_unchecked(text, &mut page.0));
            let is_key = matches!(read, Some(Ok(KEY_BYTES)));
            if !is_key {
                page.0.zeroize();
                return None;
            }
        }
        // A file of zeros is not a key that anyone made.
        page.0[..KEY_BYTES].iter().any(|byte| *byte != 0).then(|| Self::on(page))
    }

    fn on(page: Box<Page>) -> Self {
        let digest = blake3::Hasher::new_derive_key("rowgate 2026-11 id of a master key")
            .update(&page.0[..KEY_BYTES])
            .finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_bytes()[..8]);
        Self { page, id: KeyId(id) }
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Its bytes, for the cipher.
    pub(super) fn expose(&self) -> &[u8] {
        &self.page.0[..KEY_BYTES]
    }

    /// As a file keeps it.
    pub(super) fn text(&self) -> Secret {
        // room for all of it at once, so that nothing is left where it grew
        let mut text = Vec::with_capacity(2 * KEY_BYTES + 1);
        for byte in self.expose() {
            for digit in [byte >> 4, byte & 15] {
                text.push(b"0123456789abcdef"[usize::from(digit)]);
            }
        }
        text.push(b'\n');
        Secret::new(text)
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.page.0.zeroize();
        unlock(&self.page);
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// Keeps the page out of swap and of core dumps. What the system refuses (a limit of locked memory) is no reason not to
/// run: it is said once.
fn lock(page: &Page) {
    let at = std::ptr::from_ref(page).cast_mut().cast();
    // SAFETY: it is a page of this process's own, whole and aligned, and neither call changes what is in it.
    #[allow(unsafe_code, reason = "the system's calls take addresses")]
    let locked = unsafe {
        rustix::mm::mlock(at, PAGE_BYTES)
            .and_then(|()| rustix::mm::madvise(at, PAGE_BYTES, rustix::mm::Advice::LinuxDontDump))
    };
    if let Err(error) = locked {
        tracing::warn!(%error, "the master key can't be kept out of swap; raise LimitMEMLOCK");
    }
}

/// Gives the page back as it was.
fn unlock(page: &Page) {
    let at = std::ptr::from_ref(page).cast_mut().cast();
    // SAFETY: as above; the page is still there.
    #[allow(unsafe_code, reason = "the system's calls take addresses")]
    let _ = unsafe {
        rustix::mm::munlock(at, PAGE_BYTES)
            .and_then(|()| rustix::mm::madvise(at, PAGE_BYTES, rustix::mm::Advice::LinuxDoDump))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_its_text_says() {
        let key = MasterKey::generate().unwrap();
        let again = MasterKey::from_text(key.text().expose()).unwrap();
        assert_eq!((key.id(), key.expose()), (again.id(), again.expose()));
        let base64 = base64::engine::general_purpose::STANDARD.encode(key.expose());
        assert_eq!(MasterKey::from_text(base64.as_bytes()).unwrap().id(), key.id());
        assert_ne!(MasterKey::generate().unwrap().id(), key.id());
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
        let zeros = "0".repeat(64);
        let short = "ab".repeat(31);
        let long = "ab".repeat(33);
        for bad in ["", "hunter2", &zeros, &short, &long, &"g".repeat(64), &"=".repeat(44)] {
            assert!(MasterKey::from_text(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    /// The page is locked and left out of dumps: the kernel's own word on it.
    #[test]
    fn its_page_is_neither_swapped_nor_dumped() {
        let key = MasterKey::generate().unwrap();
        let at = key.expose().as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let first = line.split(' ').next().unwrap_or("");
            if let Some((from, to)) = first.split_once('-') {
                let hex = |text| usize::from_str_radix(text, 16);
                inside = hex(from).is_ok_and(|from| from <= at) && hex(to).is_ok_and(|to| at < to);
            }
            if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                assert!(flags.contains(" lo") && flags.contains(" dd"), "{flags}");
                return;
            }
        }
        panic!("its page is nowhere");
    }
}
