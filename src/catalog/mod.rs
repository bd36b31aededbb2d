//! A target's schema as the server describes it → a [`Catalog`] with labels, inherited through generated
//! columns and views, and the sensitive closure. Pure data: `net` runs [`QUERIES`] over a side connection.

mod build;
mod rows;

use crate::schema::{Flavour, ServerProfile, SqlMode};

pub use build::build;
pub use rows::{NOT_SYSTEM, QUERIES, Raw};

/// A result of one of the [`QUERIES`]: rows of cells, `None` for NULL.
pub type Rows = Vec<Vec<Option<Vec<u8>>>>;

/// The server's answer could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A query answered another shape than it was asked for.
    #[error("the database answered {0} in an unexpected form")]
    Shape(&'static str),
    /// A version that is neither MySQL's nor MariaDB's.
    #[error("the database's version {0:?} is not understood")]
    Version(String),
    /// More tables or columns than a catalogue holds.
    #[error("the database has more than {0} columns; narrow the gateway's account")]
    TooLarge(usize),
}

/// The server's profile from its version string and variables.
///
/// `10.11.19-MariaDB-…` is 101119, `9.7.4` is 90704: the numbers that executable comments compare with.
pub fn profile(
    version: &str,
    lower_case_table_names: u8,
    sql_mode: &str,
) -> Result<ServerProfile, CatalogError> {
    let unreadable = || CatalogError::Version(version.chars().take(64).collect());
    let plain = version.strip_prefix("5.5.5-").unwrap_or(version);
    let digits = plain.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("");
    let mut parts = digits.split('.').map(str::parse::<u32>);
    let mut part = || parts.next().and_then(Result::ok).filter(|n| *n < 100);
    let (Some(major), Some(minor), Some(patch)) = (part(), part(), part()) else {
        return Err(unreadable());
    };
    let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
    // MariaDB before 11 greets clients so; drivers compare with what they read there.
    let prefix = if is_mariadb && major == 10 { "5.5.5-" } else { "" };
    Ok(ServerProfile {
        flavour: if is_mariadb { Flavour::MariaDb } else { Flavour::MySql },
        version: major * 10_000 + minor * 100 + patch,
        version_string: format!("{prefix}{plain}"),
        lower_case_table_names,
        sql_mode: SqlMode::of(sql_mode),
        capabilities: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |text: &str| profile(text, 0, "").map(|p| (p.flavour, p.version));
        assert_eq!(check("10.11.19-MariaDB-0+deb12u1"), Ok((Flavour::MariaDb, 101_119)));
        assert_eq!(check("5.5.5-10.6.1-MariaDB"), Ok((Flavour::MariaDb, 100_601)));
        assert_eq!(check("9.7.4"), Ok((Flavour::MySql, 90_704)));
        assert_eq!(check("8.0.36-debian"), Ok((Flavour::MySql, 80_036)));
        let greeting = |text: &str| profile(text, 0, "").unwrap().version_string;
        assert_eq!(greeting("10.11.19-MariaDB"), "5.5.5-10.11.19-MariaDB");
        assert_eq!(greeting("5.5.5-10.6.1-MariaDB"), "5.5.5-10.6.1-MariaDB");
        assert_eq!(greeting("11.4.2-MariaDB"), "11.4.2-MariaDB");
        assert_eq!(greeting("9.7.4"), "9.7.4");
        assert!(check("nonsense").is_err());
        assert!(check("9.7").is_err());
    }

    #[test]
    fn modes() {
        assert_eq!(SqlMode::of("STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"), SqlMode(0));
        assert_eq!(SqlMode::of("ansi_quotes , NO_BACKSLASH_ESCAPES"), SqlMode(3));
    }
}
