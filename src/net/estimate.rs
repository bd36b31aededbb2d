//! How many rows a database expects a held statement to look at, by EXPLAIN over a side connection of its own. Only what
//! [`crate::sql::is_explainable`] lets through is asked, so that nothing runs that nobody agreed to.

use std::time::Duration;

use super::side::SideTarget;
use crate::schema::Flavour;

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The current database.
    pub schema: Option<String>,
    /// The statement: explainable, and no other.
    pub statement: String,
    /// The server.
    pub flavour: Flavour,
}

/// No lock is waited for longer, so that an EXPLAIN that nobody waits for any more ends soon.
const LIMITS: &str = "SET SESSION lock_wait_timeout = 1, SESSION innodb_lock_wait_timeout = 1";

impl SideTarget {
    /// The number; `None`: it can't be told. `patience` bounds each read.
    pub fn explain(&self, of: &Explained, patience: Duration) -> Option<u64> {
        let mut own = None;
        self.query(&mut own, LIMITS, patience).ok()?;
        if let Some(schema) = &of.schema {
            self.query(&mut own, &format!("USE `{}`", schema.replace('`', "``")), patience).ok()?;
        }
        // (MySQL may be set to another form.)
        let (verb, at) = match of.flavour {
            Flavour::MySql => ("EXPLAIN FORMAT=TRADITIONAL", 9),
            Flavour::MariaDb => ("EXPLAIN", 8),
        };
        let rows = self.query(&mut own, &format!("{verb} {}", of.statement), patience).ok()?;
        // A join looks at so many rows of the next table for each of the one before.
        rows.iter().try_fold(1_u64, |all, row| {
            let cell = row.get(at)?.as_deref()?;
            let rows: u64 = std::str::from_utf8(cell).ok()?.parse().ok()?;
            Some(all.saturating_mul(rows))
        })
    }
}
