//! What a session's own SETs have left behind, as a digest: the same statement may do something else after them, so that
//! an approval must not be used across. What the SETs mean is not known here: when in doubt, two digests differ.

/// Settings told apart; older ones are folded together.
const KEPT: usize = 64;

/// The SETs that succeeded, in their order; one of a single variable replaces what was set for it before.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Digest of the variable, and of the whole SET.
    kept: Vec<([u8; 32], [u8; 32])>,
    folded: [u8; 32],
}

impl Settings {
    /// A SET has succeeded.
    pub(super) fn set(&mut self, text: &[u8]) {
        let variable = *blake3::hash(&variable(text)).as_bytes();
        self.kept.retain(|(known, _)| *known != variable);
        if self.kept.len() == KEPT {
            let (_, oldest) = self.kept.remove(0);
            self.folded = chained(&self.folded, &oldest);
        }
        self.kept.push((variable, *blake3::hash(text).as_bytes()));
    }

    /// What sessions with the same settings have in common.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.kept.iter().fold(self.folded, |digest, (_, set)| chained(&digest, set))
    }
}

fn chained(before: &[u8; 32], next: &[u8; 32]) -> [u8; 32] {
    *blake3::Hasher::new().update(before).update(next).finalize().as_bytes()
}

/// What is set, where that is plainly one thing; the whole text otherwise.
fn variable(text: &[u8]) -> Vec<u8> {
    let text = text.to_ascii_lowercase();
    if text.contains(&b',') {
        return text;
    }
    let words: Vec<&[u8]> = text.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).collect();
    match (words.as_slice(), text.iter().position(|byte| *byte == b'=')) {
        ([b"set", b"names", ..], None) => b"set names".to_vec(),
        (_, Some(at)) => text[..at].trim_ascii().to_vec(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sets: &[&str]) -> [u8; 32] {
        let mut settings = Settings::default();
        sets.iter().for_each(|set| settings.set(set.as_bytes()));
        settings.digest()
    }

    #[test]
    fn what_was_set_counts_and_what_was_set_again_replaces_it() {
        assert_eq!(of(&["SET NAMES latin1", "SET NAMES utf8mb4"]), of(&["SET NAMES utf8mb4"]));
        assert_eq!(of(&["SET @n = 1", "SET @n = 2"]), of(&["SET @n = 2"]));
        let different: [&[&str]; 6] = [
            &[],
            &["SET NAMES latin1"],
            &["SET NAMES utf8mb4"],
            &["SET @a = 1, @b = 2", "SET @a = 5"],
            &["SET @a = 5", "SET @a = 1, @b = 2"],
            &["SET time_zone = '+01:00'"],
        ];
        let mut digests: Vec<_> = different.iter().map(|sets| of(sets)).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), different.len());
    }

    #[test]
    fn many_are_folded_and_still_count() {
        let many = |first: u32| {
            let mut settings = Settings::default();
            (first..first + 200).for_each(|n| settings.set(format!("SET @v{n} = 1").as_bytes()));
            assert_eq!(settings.kept.len(), KEPT);
            settings.digest()
        };
        assert_ne!(many(0), many(1));
        assert_eq!(of(&[]), [0; 32], "as is a session that has set nothing");
    }
}
