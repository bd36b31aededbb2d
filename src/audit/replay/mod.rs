//! A session looked back at: each statement with its verdict and times, and what the client saw of its answer, cell by cell,
//! with what was masked in it and why.
//!
//! It tells what the record tells. Rows are there where a policy had them recorded, up to `audit.answer_bytes`; that there
//! was more is said, and how much.

mod cell;
mod result;
mod sessions;

use std::collections::HashMap;
use std::ops::ControlFlow;

pub use result::{Answer, Column};
pub use sessions::{Summary, sessions};

use super::read::{Folder, ReadError};
use crate::codec::Capabilities;
use crate::record::{Completion, Opened, Record, Recorded, RecordedIntent};
use result::Reading;

/// Statements whose columns are remembered for those whose answers come without them: a session that has more open at the
/// same time is shown bytes it can't read.
const REMEMBERED: usize = 256;

/// A statement of the session.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Played {
    /// What was asked, and what was decided.
    #[serde(flatten)]
    pub intent: RecordedIntent,
    /// What the client was answered, as far as it is recorded.
    pub answers: Vec<Answer>,
    /// The answer went on beyond what is recorded, or its end was lost.
    pub cut: bool,
    /// Nothing of the answer is recorded: no policy asked for it.
    pub unrecorded: bool,
    /// How it ended; none for one that runs, or was lost with the gateway.
    pub ended: Option<Completion>,
}

impl Played {
    fn new(intent: RecordedIntent) -> Self {
        Self { intent, answers: Vec::new(), cut: false, unrecorded: true, ended: None }
    }

    /// What the client saw and the record has not; none: it has all, or nothing is known.
    pub fn missing(&self) -> Option<String> {
        let rows = self.ended?.rows;
        if self.unrecorded {
            return (rows > 0)
                .then(|| format!("{rows} rows were answered; no policy had them recorded."));
        }
        self.cut.then(|| format!("The answer had {rows} rows; the record ends here."))
    }
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

impl Moment {
    /// When it was, in microseconds since the epoch.
    pub fn at_us(&self) -> i64 {
        match self {
            Self::Opened(opened) => opened.at_us,
            Self::Statement(played) => played.intent.at_us,
            Self::Closed { at_us, .. } => *at_us,
        }
    }
}

/// Replays a session: hands over each of its moments, for as long as more are wanted.
pub fn replay(
    folder: &Folder,
    session: u64,
    mut moment: impl FnMut(Moment) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let (mut player, mut flow) = (Player::new(session), ControlFlow::Continue(()));
    folder.of_session(session, |found| {
        flow = player.take(found.record).into_iter().try_for_each(&mut moment);
        flow
    })?;
    if flow.is_continue() {
        let _ = player.end().into_iter().try_for_each(moment);
    }
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
                let is_of = |played: &Played| played.intent.statement == statement;
                let open = self.open.as_mut().filter(|(played, _)| is_of(played));
                if let Some((_, released)) = open {
                    released.bytes.extend_from_slice(&bytes);
                    released.capabilities = capabilities;
                    released.cut |= cut;
                }
                Vec::new()
            }
            Recorded::Intent(intent) => {
                let before = self.end();
                self.open = Some((Box::new(Played::new(intent)), Released::default()));
                before
            }
            Recorded::Completion(end) => {
                let is_of = |played: &Played| played.intent.statement == end.statement;
                if let Some((played, _)) = self.open.as_mut().filter(|(played, _)| is_of(played)) {
                    played.ended = Some(end);
                }
                self.end()
            }
            Recorded::SessionOpened(opened) => self.with(Moment::Opened(opened)),
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
        let known = self.columns.get(&played.intent.digest).map_or(&[][..], Vec::as_slice);
        let fetched = played.intent.command == "fetch";
        let reading = Reading {
            capabilities: Capabilities(released.capabilities),
            binary: fetched || matches!(&*played.intent.command, "execute" | "bulk_execute"),
            fetched,
            known,
        };
        let read = result::read(&released.bytes, reading);
        played.cut = released.cut || read.cut;
        let columns = read.answers.iter().find_map(|answer| match answer {
            Answer::Rows { columns, .. } if !columns.is_empty() => Some(columns.clone()),
            _ => None,
        });
        if let Some(columns) = columns {
            if self.columns.len() >= REMEMBERED {
                self.columns.clear();
            }
            self.columns.insert(played.intent.digest.clone(), columns);
        }
        played.answers = read.answers;
    }
}

#[cfg(test)]
mod tests;
