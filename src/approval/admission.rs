//! How a request comes in: it uses a grant, is told of a denial, joins a ticket that nobody waits for, or is a new one.

use aws_lc_rs::rand::SecureRandom as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::service::{DeskService, Failed, Waiter, denied};
use super::{Decision, NewRequest};
use crate::config::{ApprovalEvent, ApprovalMode};
use crate::store::{Approval, ApprovalState, HoldMode};

enum Admitted {
    /// Answered at once.
    Decided(Decision),
    /// Waits for approvers.
    Pending(Box<Approval>),
}

impl DeskService {
    pub(super) async fn on_request(
        &mut self,
        request: NewRequest,
        answer: oneshot::Sender<Decision>,
    ) {
        if answer.is_closed() {
            // its client died in the queue: a grant must not be used up for nobody
            return;
        }
        let mode = self.mode_of(&request);
        match self.admit(request, mode).await {
            Ok(Admitted::Decided(decision)) => drop(answer.send(decision)),
            Ok(Admitted::Pending(approval)) if mode == ApprovalMode::Ticket => {
                drop(answer.send(Decision::Ticket { id: approval.id }));
            }
            Ok(Admitted::Pending(approval)) => {
                let waiter = self.waiter(&approval, mode, answer);
                self.waiters.insert(approval.id, waiter);
            }
            Err(error) => {
                tracing::error!(%error, "an approval could not be asked for");
                drop(answer.send(Decision::Unavailable));
            }
        }
    }

    /// How this request's client learns of the decision.
    fn mode_of(&self, request: &NewRequest) -> ApprovalMode {
        if !request.wait {
            return ApprovalMode::Ticket;
        }
        request.mode.unwrap_or(self.settings.mode)
    }

    fn waiter(
        &self,
        approval: &Approval,
        mode: ApprovalMode,
        answer: oneshot::Sender<Decision>,
    ) -> Waiter {
        let left_us = approval.expires_us.saturating_sub((self.clock)());
        let left = std::time::Duration::from_micros(u64::try_from(left_us).unwrap_or(0));
        let patience = std::time::Duration::from_secs(self.settings.wait_s);
        let to_the_end = mode == ApprovalMode::Wait;
        let wait = if to_the_end { left } else { left.min(patience) };
        Waiter { answer, until: Instant::now() + wait, to_the_end }
    }

    async fn admit(&mut self, request: NewRequest, mode: ApprovalMode) -> Result<Admitted, Failed> {
        let now_us = (self.clock)();
        let key = request.grant_key.0;
        for open in self.store.open_approvals(&request.identity, &key, now_us).await? {
            match open.state {
                ApprovalState::Approved => {
                    if let Some(decision) = self.consume(open).await? {
                        return Ok(Admitted::Decided(decision));
                    }
                }
                ApprovalState::Denied => {
                    let mut told = open;
                    told.told = true;
                    if self.store.change_approval(&told, ApprovalState::Denied).await? {
                        return Ok(Admitted::Decided(denied(&told)));
                    }
                }
                ApprovalState::Pending if !self.waiters.contains_key(&open.id) => {
                    return Ok(Admitted::Pending(Box::new(open)));
                }
                _ => {}
            }
        }
        let own = self.store.pending_approvals_of(&request.identity).await?;
        let all = self.store.pending_approvals().await?;
        if all >= self.settings.max_pending || own >= share(self.settings.max_pending) {
            return Ok(Admitted::Decided(Decision::Full));
        }
        let approval = self.new_approval(request, mode, now_us)?;
        let event = ApprovalEvent::Requested;
        self.record(&approval, event, &approval.identity, &approval.rule)?;
        self.store.insert_approval(&approval).await?;
        self.announce(event, &approval.identity, &approval);
        Ok(Admitted::Pending(Box::new(approval)))
    }

    fn new_approval(
        &self,
        request: NewRequest,
        mode: ApprovalMode,
        now_us: i64,
    ) -> Result<Approval, Failed> {
        let mut approver_groups = request.approver_groups;
        if approver_groups.is_empty() {
            approver_groups.clone_from(&self.settings.groups);
        }
        let at_once = mode == ApprovalMode::Ticket;
        Ok(Approval {
            id: new_id()?,
            state: ApprovalState::Pending,
            mode: if at_once { HoldMode::Ticket } else { HoldMode::Wait },
            identity: request.identity,
            on_behalf_of: request.on_behalf_of,
            groups: request.groups,
            target: request.target,
            schema: request.schema,
            session: request.session,
            statement: request.statement,
            digest: request.digest,
            verb: request.verb,
            tables: request.tables,
            rule: request.rule,
            message: request.message,
            details: request.details,
            approver_groups,
            approvers: request.approvers.max(1),
            votes: Vec::new(),
            told: false,
            grant_key: request.grant_key.0,
            created_us: now_us,
            expires_us: self.expiry(now_us),
        })
    }
}

/// How many requests of one identity may be pending: one that asks for everything must leave room for the others.
fn share(max_pending: usize) -> usize {
    max_pending.div_ceil(4)
}

/// `apr_` and 48 random bits: short enough to type, and a store holds thousands, not millions.
fn new_id() -> Result<String, Failed> {
    let mut bytes = [0_u8; 6];
    aws_lc_rs::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| Failed::NoRandomness)?;
    let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    Ok(format!("apr_{value:012x}"))
}
