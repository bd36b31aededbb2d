//! A password from whoever runs a verb: from a file, from standard input, or typed without being shown. Never from the
//! arguments, which every user of the machine can read.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::CliError;
use crate::control::Password;

/// Longest password that is read.
const MAX_BYTES: usize = 4_096;

/// From this file, or as [`ask`] has it.
pub(super) fn read(file: Option<&Path>, whose: &str) -> Result<Password, CliError> {
    match file {
        Some(path) => {
            let found = crate::vault::resolve(&format!("file:{}", path.display()));
            let found =
                found.map_err(|error| CliError::input(format!("--password-file: {error}")))?;
            text(found.expose())
        }
        None => ask(whose),
    }
}

/// From the terminal, twice; from standard input where that is none.
fn ask(whose: &str) -> Result<Password, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return typed(whose);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 2));
    let limit = u64::try_from(MAX_BYTES + 2).unwrap_or(u64::MAX);
    stdin.lock().take(limit).read_to_end(&mut bytes).map_err(|error| {
        CliError::input(format!("standard input: {error}; give the password there"))
    })?;
    text(&bytes)
}

fn typed(whose: &str) -> Result<Password, CliError> {
    let failed = |error: std::io::Error| CliError::failed(format!("the terminal: {error}"));
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let first = unseen(&terminal, &format!("Password of {whose}: ")).map_err(failed)?;
    let second = unseen(&terminal, "The same again: ").map_err(failed)?;
    if *first == *second {
        text(&first)
    } else {
        Err(CliError::input("these are two passwords; nothing was done"))
    }
}

/// A line that is typed without being shown.
fn unseen(terminal: &File, prompt: &str) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let (mut out, shown) = (terminal, tcgetattr(terminal.as_fd())?);
    write!(out, "{prompt}")?;
    let mut silent = shown.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(terminal.as_fd(), OptionalActions::Flush, &silent)?;
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 2));
    let limit = u64::try_from(MAX_BYTES + 2).unwrap_or(u64::MAX);
    // (A terminal's line is handed over whole: nothing of a later one is in the reader.)
    let read = BufReader::new(terminal.take(limit)).read_until(b'\n', &mut line);
    tcsetattr(terminal.as_fd(), OptionalActions::Flush, &shown)?;
    read.map(|_| line)
}

/// One newline at the end isn't part of it.
fn text(bytes: &[u8]) -> Result<Password, CliError> {
    let bare = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    if bare.is_empty() {
        return Err(CliError::input(
            "the password is empty; give it on standard input, by --password-file, or say where it is by --credential",
        ));
    }
    if bare.len() > MAX_BYTES || bare.contains(&0) {
        return Err(CliError::input("the password: 1 to 4096 bytes, none of them 0"));
    }
    let text = std::str::from_utf8(bare);
    let text = text.map_err(|_| CliError::input("the password is no UTF-8 text"))?;
    Ok(Password::new(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_is_no_part_of_it() {
        let read = |bytes: &[u8]| text(bytes);
        for (given, is) in
            [("pw\n", "pw"), ("pw", "pw"), ("pw\r\n", "pw"), (" p w \n\n", " p w \n")]
        {
            assert_eq!(read(given.as_bytes()).unwrap().expose(), is);
        }
        for bad in [&b""[..], b"\n", b"a\0b", b"\xff", &[b'x'; MAX_BYTES + 1]] {
            assert!(read(bad).is_err());
        }
    }
}
