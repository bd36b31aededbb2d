//! A session looked back at: each statement with its verdict and times, and what the client saw of its answer, cell by cell,
//! with what was masked in it and why.
//!
//! It tells what the record tells. Rows are there where a policy had them recorded, up to `audit.answer_bytes`; that there
//! was more is said, and how much.

mod cell;
mod result;
mod sessions;

use std::collections::HashMap;

pub use result::{Answer, Column};
pub use sessions::{Summary, sessions};

use super::read::{Folder, ReadError};
use crate::codec::Capabilities;
use crate::record::{Masked, Record, Recorded};
use result::Reading;

/// Statements whose columns are remembered for those whose answers come without them: a session that has more open at the
/// same time is shown bytes it can't read.
const REMEMBERED: usize = 256;

/// How a session began.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Opened {
    /// The gateway's id.
    pub session: u64,
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// Who.
    pub identity: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// On which target.
    pub target: String,
    /// From where.
    pub source: String,
    /// What its login said of the run.
    pub attributes: Vec<(String, String)>,
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Ended {
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// Rows released.
    pub rows: u64,
    /// Bytes released.
    pub bytes: u64,
    /// Cells that a mask changed.
    pub masked_cells: u64,
    /// The error number that the client saw; 0 for none.
    pub error_code: u16,
    /// Waiting for a connection to the database.
    pub queue_us: u64,
    /// Analysing and deciding.
    pub decide_us: u64,
    /// Waiting for an approver.
    pub hold_us: u64,
    /// Until the database's first byte.
    pub upstream_us: u64,
    /// From its arrival to the last byte released.
    pub total_us: u64,
}

/// A statement of the session.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Played {
    /// Counts the session's statements, from 1.
    pub statement: u64,
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// Who; another than at first after COM_CHANGE_USER.
    pub identity: String,
    /// In which database.
    pub schema: Option<String>,
    /// By which command.
    pub command: String,
    /// What it is.
    pub verb: String,
    /// The digest of its shape.
    pub digest: String,
    /// Its text, or its shape.
    pub text: String,
    /// `allow`, `mask`, `deny`, `hold`.
    pub verdict: String,
    /// The deciding rules.
    pub rules: Vec<String>,
    /// What was masked in its result, and why.
    pub masked: Vec<Masked>,
    /// The tables touched.
    pub tables: Vec<String>,
    /// The policy that decided.
    pub policy_version: String,
    /// What was said of its run.
    pub attributes: Vec<(String, String)>,
    /// What the client was answered, as far as it is recorded.
    pub answers: Vec<Answer>,
    /// The answer went on beyond what is recorded, or its end was lost.
    pub cut: bool,
    /// Nothing of the answer is recorded: no policy asked for it.
    pub unrecorded: bool,
    /// How it ended; none for one that runs, or was lost with the gateway.
    pub ended: Option<Ended>,
}

/// A moment of a session, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "moment", rename_all = "snake_case")]
pub enum Moment {
    /// It logged in (again, after COM_CHANGE_USER).
    Opened(Opened),
    /// It ran a statement.
    Statement(Box<Played>),
    /// It ended.
    Closed {
        /// Microseconds since the epoch.
        at_us: i64,
        /// Why.
        reason: String,
    },
}

/// Replays a session: hands over each of its moments.
pub fn replay(
    folder: &Folder,
    session: u64,
    mut moment: impl FnMut(Moment),
) -> Result<(), ReadError> {
    let mut player = Player::new(session);
    folder.of_session(session, |found| {
        player.take(found.record).into_iter().for_each(&mut moment);
    })?;
    player.end().into_iter().for_each(moment);
    Ok(())
}

/// Puts a session's records together.
struct Player {
    session: u64,
    /// The statement under way, and what was released of its answer.
    open: Option<(Box<Played>, Released)>,
    /// The columns of the last answer to statements of each shape.
    columns: HashMap<String, Vec<Column>>,
}

#[derive(Default)]
struct Released {
    bytes: Vec<u8>,
    capabilities: u64,
    cut: bool,
}

impl Player {
    fn new(session: u64) -> Self {
        Self { session, open: None, columns: HashMap::new() }
    }

    /// Takes the next record; what it makes known.
    fn take(&mut self, Record { event, .. }: Record) -> Vec<Moment> {
        if event.session() != Some(self.session) {
            return Vec::new();
        }
        match event {
            Recorded::Released { statement, capabilities, cut, bytes, .. } => {
                let open = self.open.as_mut().filter(|(played, _)| played.statement == statement);
                if let Some((_, released)) = open {
                    released.bytes.extend_from_slice(&bytes);
                    released.capabilities = capabilities;
                    released.cut |= cut;
                }
                Vec::new()
            }
            event @ Recorded::Intent { .. } => {
                let before = self.end();
                self.open = intent(event).map(|played| (Box::new(played), Released::default()));
                before
            }
            event @ Recorded::Completion { .. } => {
                if let Some((played, _)) = &mut self.open {
                    played.ended = completion(&event);
                }
                self.end()
            }
            Recorded::SessionOpened {
                session,
                at_us,
                identity,
                groups,
                target,
                source,
                attributes,
            } => {
                let opened =
                    Opened { session, at_us, identity, groups, target, source, attributes };
                self.with(Moment::Opened(opened))
            }
            Recorded::SessionClosed { at_us, reason, .. } => {
                self.with(Moment::Closed { at_us, reason })
            }
            _ => Vec::new(),
        }
    }

    /// This moment, after what was under way.
    fn with(&mut self, moment: Moment) -> Vec<Moment> {
        let mut moments = self.end();
        moments.push(moment);
        moments
    }

    /// The statement under way is over.
    fn end(&mut self) -> Vec<Moment> {
        let Some((mut played, released)) = self.open.take() else { return Vec::new() };
        played.unrecorded = released.bytes.is_empty();
        if !played.unrecorded {
            self.read(&mut played, &released);
        }
        vec![Moment::Statement(played)]
    }

    fn read(&mut self, played: &mut Played, released: &Released) {
        let known = self.columns.get(&played.digest).map_or(&[][..], Vec::as_slice);
        let fetched = played.command == "fetch";
        let reading = Reading {
            capabilities: Capabilities(released.capabilities),
            binary: fetched || matches!(&*played.command, "execute" | "bulk_execute"),
            fetched,
            known,
        };
        let read = result::read(&released.bytes, reading);
        played.cut = released.cut || read.cut;
        let columns = read.answers.iter().find_map(|answer| match answer {
            Answer::Rows { columns, .. } if !columns.is_empty() => Some(columns.clone()),
            _ => None,
        });
        if let Some(columns) = columns.filter(|_| self.columns.len() < REMEMBERED) {
            self.columns.insert(played.digest.clone(), columns);
        }
        played.answers = read.answers;
    }
}

fn intent(event: Recorded) -> Option<Played> {
    let Recorded::Intent {
        statement,
        at_us,
        identity,
        schema,
        command,
        verb,
        digest,
        text,
        verdict,
        rules,
        masked,
        tables,
        policy_version,
        attributes,
        ..
    } = event
    else {
        return None;
    };
    Some(Played {
        statement,
        at_us,
        identity,
        schema,
        command,
        verb,
        digest,
        text,
        verdict,
        rules,
        masked,
        tables,
        policy_version,
        attributes,
        answers: Vec::new(),
        cut: false,
        unrecorded: true,
        ended: None,
    })
}

fn completion(event: &Recorded) -> Option<Ended> {
    let &Recorded::Completion {
        at_us,
        rows,
        bytes,
        masked_cells,
        error_code,
        queue_us,
        decide_us,
        hold_us,
        upstream_us,
        total_us,
        ..
    } = event
    else {
        return None;
    };
    Some(Ended {
        at_us,
        rows,
        bytes,
        masked_cells,
        error_code,
        queue_us,
        decide_us,
        hold_us,
        upstream_us,
        total_us,
    })
}

#[cfg(test)]
mod tests;
