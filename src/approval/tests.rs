//! The desk, driven through its handles, over a real store in a temporary folder. The wall clock is the test's own.

mod glass;
mod modes;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64};

use super::*;
use crate::schema::SqlMode;
use crate::store::{ApprovalState, Details, HoldMode};

const SECOND_US: i64 = 1_000_000;

struct Office {
    desk: Desk,
    store: Store,
    clock: Arc<AtomicI64>,
    changes: Arc<Mutex<Vec<String>>>,
    record_fails: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    service: tokio::task::JoinHandle<()>,
}

impl Office {
    async fn open(dir: &std::path::Path, settings: Approvals) -> Self {
        let store = Store::open(&dir.join("store.db")).await.unwrap();
        let clock = Arc::new(AtomicI64::new(1_000 * SECOND_US));
        let changes = Arc::new(Mutex::new(Vec::new()));
        let record_fails = Arc::new(AtomicBool::new(false));
        let (noted, fails) = (changes.clone(), record_fails.clone());
        let events = Arc::new(move |event: &Event<'_>| {
            if fails.load(Ordering::Relaxed) {
                return Err(NotRecorded);
            }
            let Event::Approval { change, by, .. } = event else { return Ok(()) };
            noted.lock().unwrap().push(format!("{change} {by}"));
            Ok(())
        });
        let hands = clock.clone();
        let clock_now = Box::new(move || hands.load(Ordering::Relaxed));
        let (desk, service) =
            Desk::open_at(store.clone(), &settings, events, clock_now).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = tokio::spawn(service.run(async move {
            let _ = stopped.await;
        }));
        Self { desk, store, clock, changes, record_fails, stop: Some(stop), service }
    }

    /// Asks, and returns once the desk has dealt with it: its queue is in order.
    async fn ask(&self, request: NewRequest) -> Waiting {
        let waiting = self.desk.request(request).unwrap();
        let behind = self.desk.cancel("apr_none", "test", "").await;
        assert!(matches!(behind, Err(VoteRefused::Unknown(_))));
        waiting
    }

    async fn only(&self, state: ApprovalState) -> Approval {
        let mut found = self.store.approvals(Some(state), 10).await.unwrap();
        assert_eq!(found.len(), 1, "{state:?}");
        found.remove(0)
    }

    async fn approve(&self, id: &str, by: &Approver) -> Result<Approval, VoteRefused> {
        self.desk.vote(id, by, true, "").await
    }

    fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.changes.lock().unwrap())
    }

    fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * SECOND_US, Ordering::Relaxed);
    }

    async fn close(mut self) {
        drop(self.stop.take());
        self.service.await.unwrap();
    }
}

fn settings() -> Approvals {
    Approvals {
        wait_s: 600,
        expiry_s: 900,
        groups: vec!["dba".into()],
        max_pending: 12,
        ..Approvals::default()
    }
}

fn request(desk: &Desk, statement: &str) -> NewRequest {
    NewRequest {
        identity: "bot".into(),
        on_behalf_of: None,
        groups: vec!["agents".into()],
        target: "shop".into(),
        schema: Some("shop".into()),
        session: 7,
        statement: statement.into(),
        digest: "00".into(),
        verb: "drop".into(),
        tables: vec!["shop.payments".into()],
        rule: "hold-drop".into(),
        message: "a person must agree".into(),
        details: Details::default(),
        approver_groups: vec![],
        approvers: 1,
        grant_key: key(desk, statement),
        wait: true,
        mode: None,
    }
}

fn key(desk: &Desk, statement: &str) -> GrantKey {
    desk.grant_key(&GrantScope {
        target: "shop",
        schema: Some("shop"),
        sql_mode: SqlMode(0),
        charset: 45,
        settings: [0; 32],
        attributes: [0; 32],
        canonical: statement.as_bytes(),
        bulk: false,
        parameters: b"",
        rule: "hold-drop",
        approver_groups: &[],
        approvers: 1,
        masked: &[],
        tables: [0; 32],
    })
}

fn dba(name: &str) -> Approver {
    Approver { identity: name.into(), groups: vec!["dba".into()] }
}

fn run<F: Future<Output = ()>>(work: impl FnOnce(std::path::PathBuf) -> F) {
    let dir = tempfile::tempdir().unwrap();
    crate::store::tests::block_on(work(dir.path().to_owned()));
}

#[test]
fn a_waiting_client_gets_its_approval_and_the_grant_is_gone() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let pending = office.only(ApprovalState::Pending).await;
        assert_eq!(pending.approver_groups, ["dba"], "none named: the configuration's");
        office.approve(&pending.id, &dba("dana")).await.unwrap();
        let decision = waiting.await;
        assert_eq!(
            decision,
            Decision::Approved { id: pending.id.clone(), by: vec!["dana".into()] }
        );
        assert_eq!(decision.fault(None), None);
        assert_eq!(office.only(ApprovalState::Consumed).await.id, pending.id);
        assert_eq!(office.changes(), ["requested bot", "approved dana", "consumed bot"]);
        // the same statement again asks again
        let _again = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        assert_ne!(office.only(ApprovalState::Pending).await.id, pending.id);
    });
}

#[test]
fn a_denial_carries_its_reason() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        office.desk.vote(&id, &dba("dana"), false, "not today").await.unwrap();
        let decision = waiting.await;
        let fault = decision.fault(None).unwrap();
        assert_eq!((fault.code, &fault.sqlstate), (1644, b"45000"));
        assert!(fault.message.contains("not today"), "{}", fault.message);
        let late = office.approve(&id, &dba("ann")).await.unwrap_err();
        assert!(matches!(late, VoteRefused::Closed { state: ApprovalState::Denied, .. }), "{late}");
        assert_eq!(office.changes(), ["requested bot", "denied dana"]);
    });
}

#[test]
fn nobody_decides_their_own_request_nor_without_a_group() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let _waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        let own = office.approve(&id, &dba("bot")).await.unwrap_err();
        assert!(matches!(own, VoteRefused::OwnRequest(_)), "{own}");
        let own_no = office.desk.vote(&id, &dba("bot"), false, "").await.unwrap_err();
        assert!(matches!(own_no, VoteRefused::OwnRequest(_)), "{own_no}");
        let stranger = Approver { identity: "eve".into(), groups: vec!["agents".into()] };
        let refused = office.approve(&id, &stranger).await.unwrap_err();
        assert!(matches!(refused, VoteRefused::NotAnApprover { .. }), "{refused}");
        assert_eq!(office.only(ApprovalState::Pending).await.votes, []);
    });
}

#[test]
fn nobody_decides_what_is_asked_for_on_their_behalf() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let for_ann = Some("ann".to_owned());
        let request =
            NewRequest { on_behalf_of: for_ann, ..request(&office.desk, "DROP TABLE payments") };
        let _waiting = office.ask(request).await;
        let id = office.only(ApprovalState::Pending).await.id;
        for (name, approve) in [("ann", true), ("Ann", true), ("ann", false)] {
            let own = office.desk.vote(&id, &dba(name), approve, "").await.unwrap_err();
            assert!(matches!(own, VoteRefused::OnOwnBehalf(_)), "{own}");
        }
        assert_eq!(office.only(ApprovalState::Pending).await.votes, []);
        let approved = office.approve(&id, &dba("dana")).await.unwrap();
        assert_eq!(approved.on_behalf_of.as_deref(), Some("ann"));
    });
}

#[test]
fn two_approvers_are_two_people() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let two = NewRequest { approvers: 2, ..request(&office.desk, "DROP TABLE payments") };
        let waiting = office.ask(two).await;
        let id = office.only(ApprovalState::Pending).await.id;
        let first = office.approve(&id, &dba("dana")).await.unwrap();
        assert_eq!(first.state, ApprovalState::Pending);
        let twice = office.approve(&id, &dba("dana")).await.unwrap_err();
        assert!(matches!(twice, VoteRefused::VotedBefore(_)), "{twice}");
        office.approve(&id, &dba("ann")).await.unwrap();
        let by = vec!["dana".to_owned(), "ann".to_owned()];
        assert_eq!(waiting.await, Decision::Approved { id, by });
    });
}

#[test]
fn a_ticket_is_used_once_and_only_by_its_owner_for_its_statement() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let ticket =
            NewRequest { wait: false, ..request(&office.desk, "DELETE FROM t WHERE id = 5") };
        let id = office.only_after(ticket.clone()).await;
        // asking again before the decision gives the same ticket
        assert_eq!(office.ask(ticket.clone()).await.await, Decision::Ticket { id: id.clone() });
        office.approve(&id, &dba("dana")).await.unwrap();
        let other = NewRequest { identity: "eve".into(), ..ticket.clone() };
        assert!(matches!(office.ask(other).await.await, Decision::Ticket { .. }));
        let shape = NewRequest {
            grant_key: key(&office.desk, "DELETE FROM t WHERE id = 6"),
            ..ticket.clone()
        };
        assert!(matches!(office.ask(shape).await.await, Decision::Ticket { .. }));
        let used = office.ask(ticket.clone()).await.await;
        assert_eq!(used, Decision::Approved { id: id.clone(), by: vec!["dana".into()] });
        let again = office.ask(ticket).await.await;
        assert!(matches!(&again, Decision::Ticket { id: new } if *new != id), "{again:?}");
    });
}

impl Office {
    /// Asks for a ticket and returns its id.
    async fn only_after(&self, ticket: NewRequest) -> String {
        let answer = self.ask(ticket).await.await;
        let Decision::Ticket { id } = answer else { panic!("{answer:?}") };
        assert_eq!(self.only(ApprovalState::Pending).await.id, id);
        id
    }
}

#[test]
fn a_denied_ticket_is_told_once() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let ticket = NewRequest { wait: false, ..request(&office.desk, "DROP TABLE payments") };
        let id = office.only_after(ticket.clone()).await;
        office.desk.vote(&id, &dba("dana"), false, "no").await.unwrap();
        let told = office.ask(ticket.clone()).await.await;
        let denied = Decision::Denied { id: id.clone(), by: "dana".into(), reason: "no".into() };
        assert_eq!(told, denied);
        assert!(
            matches!(office.ask(ticket).await.await, Decision::Ticket { id: new } if new != id)
        );
    });
}

#[test]
fn who_waited_long_enough_gets_a_ticket() {
    run(async |dir| {
        let office = Office::open(&dir, Approvals { wait_s: 0, ..settings() }).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let Decision::Ticket { id } = waiting.await else { panic!("no ticket") };
        let pending = office.only(ApprovalState::Pending).await;
        assert_eq!((&pending.id, pending.mode), (&id, HoldMode::Ticket));
        office.approve(&id, &dba("dana")).await.unwrap();
        let used = office.ask(request(&office.desk, "DROP TABLE payments")).await.await;
        assert!(matches!(used, Decision::Approved { .. }), "{used:?}");
    });
}

#[test]
fn requests_and_grants_expire() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let ticket = NewRequest { wait: false, ..request(&office.desk, "DROP TABLE payments") };
        let id = office.only_after(ticket.clone()).await;
        office.pass(901);
        let late = office.approve(&id, &dba("dana")).await.unwrap_err();
        assert!(
            matches!(late, VoteRefused::Closed { state: ApprovalState::Expired, .. }),
            "{late}"
        );
        // a grant lives from its approval on, and no longer than a request
        let Decision::Ticket { id } = office.ask(ticket.clone()).await.await else { panic!() };
        office.pass(600);
        office.approve(&id, &dba("dana")).await.unwrap();
        office.pass(600);
        let used = office.ask(ticket.clone()).await.await;
        assert!(matches!(used, Decision::Approved { .. }), "{used:?}");
        let Decision::Ticket { id } = office.ask(ticket.clone()).await.await else { panic!() };
        office.approve(&id, &dba("dana")).await.unwrap();
        office.pass(901);
        let stale = office.ask(ticket).await.await;
        assert!(matches!(&stale, Decision::Ticket { id: new } if *new != id), "{stale:?}");
    });
}

#[test]
fn who_waits_is_told_that_time_is_over() {
    run(async |dir| {
        // the request ends before the wait does
        let office = Office::open(&dir, Approvals { expiry_s: 0, ..settings() }).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let decision = waiting.await;
        assert!(matches!(decision, Decision::Expired { .. }), "{decision:?}");
        assert_eq!(office.changes(), ["requested bot", "expired rowgate"]);
    });
}

#[test]
fn a_dead_client_calls_its_request_off() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        drop(waiting);
        // whether the desk saw the death before the vote or with it, the vote comes too late
        let late = office.approve(&id, &dba("dana")).await.unwrap_err();
        assert!(
            matches!(late, VoteRefused::Closed { state: ApprovalState::Cancelled, .. }),
            "{late}"
        );
        assert_eq!(office.changes(), ["requested bot", "cancelled bot"]);
    });
}

#[test]
fn a_dead_client_is_noticed_without_a_vote() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        drop(office.ask(request(&office.desk, "DROP TABLE payments")).await);
        let gone = async {
            while office.store.pending_approvals().await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
        };
        // generous: it takes a turn of the desk, and machines are shared
        tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
        assert_eq!(office.only(ApprovalState::Cancelled).await.votes, []);
    });
}

#[test]
fn a_dead_client_leaves_its_ticket() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let ticket = NewRequest { wait: false, ..request(&office.desk, "DROP TABLE payments") };
        let id = office.only_after(ticket.clone()).await;
        drop(office.ask(NewRequest { wait: true, ..ticket }).await);
        let approved = office.approve(&id, &dba("dana")).await.unwrap();
        assert_eq!(approved.state, ApprovalState::Approved, "not used up by the dead");
    });
}

#[test]
fn two_clients_with_one_statement_are_two_requests() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let first = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        let second = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        assert_eq!(office.store.pending_approvals().await.unwrap(), 2);
        office.approve(&id, &dba("dana")).await.unwrap();
        assert!(matches!(first.await, Decision::Approved { .. }));
        let other = office.only(ApprovalState::Pending).await.id;
        office.desk.cancel(&other, "dana", "").await.unwrap();
        assert_eq!(second.await, Decision::Cancelled { id: other });
    });
}

#[test]
fn a_restart_loses_no_request() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        office.close().await;
        assert_eq!(waiting.await, Decision::Ticket { id: id.clone() });

        let office = Office::open(&dir, settings()).await;
        office.approve(&id, &dba("dana")).await.unwrap();
        let used = office.ask(request(&office.desk, "DROP TABLE payments")).await.await;
        assert_eq!(used, Decision::Approved { id, by: vec!["dana".into()] });
    });
}

#[test]
fn a_crash_loses_no_request() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        office.service.abort();
        assert_eq!(waiting.await, Decision::Unavailable);
        assert_eq!(office.only(ApprovalState::Pending).await.mode, HoldMode::Wait);

        let office = Office::open(&dir, settings()).await;
        let pending = office.only(ApprovalState::Pending).await;
        assert_eq!((pending.id, pending.mode), (id, HoldMode::Ticket));
    });
}

#[test]
fn only_so_many_are_pending() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let mut all = Vec::new();
        for n in 0..3 {
            all.push(office.ask(request(&office.desk, &format!("DROP TABLE t{n}"))).await);
        }
        let over = office.ask(request(&office.desk, "DROP TABLE t3")).await.await;
        assert_eq!(over, Decision::Full, "a quarter is for one identity");
        assert!(over.fault(None).is_some());
        for n in 0..9 {
            let mut other = request(&office.desk, "DROP TABLE t3");
            other.identity = format!("bot {n}");
            all.push(office.ask(other).await);
        }
        assert_eq!(office.store.pending_approvals().await.unwrap(), 12, "others had their room");
        let mut last = request(&office.desk, "DROP TABLE t3");
        last.identity = "late".into();
        assert_eq!(office.ask(last).await.await, Decision::Full);
        let long = request(&office.desk, &"x".repeat(MAX_STATEMENT_BYTES + 1));
        assert_eq!(office.desk.request(long).err(), Some(DeskFull::TooLong));
    });
}

#[test]
fn what_is_not_recorded_is_not_granted() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        office.record_fails.store(true, Ordering::Relaxed);
        let refused = office.approve(&id, &dba("dana")).await.unwrap_err();
        assert!(matches!(refused, VoteRefused::NotRecorded), "{refused}");
        assert_eq!(waiting.await, Decision::Unavailable);
        let new = office.ask(request(&office.desk, "DROP TABLE t2")).await.await;
        assert_eq!(new, Decision::Unavailable);
        assert_eq!(office.only(ApprovalState::Pending).await.id, id, "it stays as it was");
    });
}
