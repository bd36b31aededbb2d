//! The session's task: carries out what `session` asks for, one operation at a time.

use std::rc::Rc;
use std::sync::Arc;

use super::registry::SessionCell;
use super::worker::{Accepted, Control, Worker};

/// Serves one connection to its end.
pub(super) async fn serve(
    worker: Rc<Worker>,
    accepted: Accepted,
    control: Rc<Control>,
    cell: Arc<SessionCell>,
) {
    drop((worker, accepted, control, cell));
}
