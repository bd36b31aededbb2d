//! The sessions of the record, summed up: who was there, and what there is to look back at.

use std::collections::HashMap;

use crate::audit::read::{Folder, ReadError};
use crate::record::{Opened, Record, Recorded};

/// A session, summed up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// How it began.
    #[serde(flatten)]
    pub opened: Opened,
    /// When it ended; none while it lasts, or where the gateway ended first.
    pub closed_us: Option<i64>,
    /// Statements.
    pub statements: u64,
    /// Those that were refused.
    pub denied: u64,
    /// Those that were held.
    pub held: u64,
    /// Rows that it saw.
    pub rows: u64,
    /// Cells that were masked for it.
    pub masked_cells: u64,
}

/// The last so many sessions, the newest first. Of the segments, as few are read as have so many.
pub fn sessions(folder: &Folder, count: usize) -> Result<Vec<Summary>, ReadError> {
    let (mut back, mut all) = (1, Vec::new());
    loop {
        let (records, is_all) = folder.last_segments(back)?;
        let mut found = Sessions { count, ..Sessions::default() };
        for record in records {
            found.take(record?.record);
        }
        all.extend(found.all.into_values());
        if is_all || all.len() >= count {
            break;
        }
        all.clear();
        back *= 2;
    }
    all.sort_by_key(|summary: &Summary| std::cmp::Reverse(summary.opened.at_us));
    all.truncate(count);
    Ok(all)
}

#[derive(Default)]
struct Sessions {
    count: usize,
    all: HashMap<u64, Summary>,
}

impl Sessions {
    fn take(&mut self, Record { event, .. }: Record) {
        if let Recorded::SessionOpened(opened) = event {
            self.make_room();
            self.all.entry(opened.session).or_insert_with(|| Summary::new(opened));
            return;
        }
        let Some(summary) = event.session().and_then(|id| self.all.get_mut(&id)) else { return };
        match event {
            Recorded::SessionClosed { at_us, .. } => summary.closed_us = Some(at_us),
            Recorded::Intent(intent) => {
                summary.statements += 1;
                summary.denied += u64::from(intent.verdict == "deny");
                summary.held += u64::from(intent.verdict == "hold");
            }
            Recorded::Completion(end) => {
                summary.rows += end.rows;
                summary.masked_cells += end.masked_cells;
            }
            _ => {}
        }
    }

    /// Twice as many as are wanted, and the older half goes: each is moved once for each that comes.
    fn make_room(&mut self) {
        if self.all.len() < self.count.max(1) * 2 {
            return;
        }
        let mut began: Vec<i64> = self.all.values().map(|summary| summary.opened.at_us).collect();
        began.sort_unstable();
        let from = began.get(began.len() / 2).copied().unwrap_or_default();
        self.all.retain(|_, summary| summary.opened.at_us >= from);
    }
}

impl Summary {
    fn new(opened: Opened) -> Self {
        Self {
            opened,
            closed_us: None,
            statements: 0,
            denied: 0,
            held: 0,
            rows: 0,
            masked_cells: 0,
        }
    }
}
