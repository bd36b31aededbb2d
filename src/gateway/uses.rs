//! Takes tokens' last uses from memory to the store, every few seconds and at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::identity::Uses;
use crate::store::Store;

/// How old what the store says may be: a crash forgets no more than that, and the disk is written no more often, however
/// many logins there are.
const EVERY: Duration = Duration::from_secs(3);

/// The task that does it. It is one of its own, so that a store that is busy holds up no change of who may log in.
pub(super) struct Keeper {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(super) fn start(uses: Arc<Uses>, store: Store) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            while tokio::time::timeout(EVERY, &mut stopped).await.is_err() {
                keep(&uses, &store).await;
            }
            keep(&uses, &store).await;
        });
        Self { stop, task }
    }

    /// Keeps the last of them. Called once nobody logs in any more.
    pub(super) async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn keep(uses: &Uses, store: &Store) {
    let taken = uses.take();
    if taken.is_empty() {
        return;
    }
    if let Err(error) = store.tokens_used(&taken).await {
        tracing::warn!(%error, "tokens' last uses are not in the store yet");
        uses.put_back(taken);
    }
}
