//! Looking back at sessions from the pages: the record is read beside the control thread, one reading at a time.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::audit::read::{Folder, ReadError};
use crate::audit::replay::{self, Moment, Summary};

/// Reads the record for the pages.
#[derive(Clone)]
pub struct LookBack {
    folder: Folder,
    /// A reading takes a core and the disk: who comes meanwhile waits.
    turn: Arc<Semaphore>,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum LookBackError {
    /// The record does not hold together.
    #[error("{0}")]
    Record(#[from] ReadError),
    /// The reading ended early.
    #[error("the record could not be read")]
    Ended,
}

/// A part of a session.
#[derive(Debug, Default)]
pub struct Part {
    /// How it began, and the moments of the part.
    pub moments: Vec<Moment>,
    /// How many statements there are in all.
    pub statements: usize,
}

impl LookBack {
    /// Of this record.
    pub fn new(folder: Folder) -> Self {
        Self { folder, turn: Arc::new(Semaphore::new(1)) }
    }

    /// The last so many sessions, the newest first.
    pub async fn sessions(&self, count: usize) -> Result<Vec<Summary>, LookBackError> {
        self.read(move |folder| replay::sessions(folder, count)).await
    }

    /// How a session began, and `count` statements of it, after so many others, with what came between them.
    pub async fn session(
        &self,
        session: u64,
        after: usize,
        count: usize,
    ) -> Result<Part, LookBackError> {
        self.read(move |folder| {
            let mut part = Part::default();
            replay::replay(folder, session, |moment| {
                let at = part.statements;
                part.statements += usize::from(matches!(moment, Moment::Statement(_)));
                let is_here = at >= after && part.statements - after <= count;
                // Logins between two statements are no statements: whoever makes many of them fills no page.
                if part.moments.is_empty() || (is_here && part.moments.len() <= 2 * count) {
                    part.moments.push(moment);
                }
                ControlFlow::Continue(())
            })?;
            Ok(part)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Folder) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, LookBackError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_| LookBackError::Ended)?;
        let folder = self.folder.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&folder)
        });
        Ok(reading.await.map_err(|_| LookBackError::Ended)??)
    }
}
