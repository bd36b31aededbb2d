//! How a client learns of the decision: on the line, by a ticket, or the one and then the other.

use super::*;

#[test]
fn a_ticket_at_once_and_the_same_again() {
    run(async |dir| {
        let settings = Approvals { mode: ApprovalMode::Ticket, ..settings() };
        let office = Office::open(&dir, settings).await;
        let request = request(&office.desk, "DROP TABLE payments");
        let Decision::Ticket { id } = office.ask(request.clone()).await.await else { panic!() };
        assert_eq!(office.only(ApprovalState::Pending).await.mode, HoldMode::Ticket);
        assert_eq!(office.ask(request.clone()).await.await, Decision::Ticket { id: id.clone() });
        // a rule's own word counts before the configuration's
        let waits = NewRequest { mode: Some(ApprovalMode::Wait), ..request };
        let waiting = office.ask(waits).await;
        office.approve(&id, &dba("dana")).await.unwrap();
        assert_eq!(waiting.await, Decision::Approved { id, by: vec!["dana".into()] });
    });
}

#[test]
fn to_wait_is_to_wait_until_the_request_ends() {
    run(async |dir| {
        let settings = Approvals { mode: ApprovalMode::Wait, wait_s: 0, expiry_s: 1, ..settings() };
        let office = Office::open(&dir, settings).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        // (The wall clock stands still: the wait has an end of its own.)
        assert_eq!(waiting.await, Decision::Expired { id });
        assert_eq!(office.changes(), ["requested bot", "expired rowgate"]);
    });
}

#[test]
fn nobody_waits_in_a_transaction() {
    run(async |dir| {
        let office = Office::open(&dir, Approvals { mode: ApprovalMode::Wait, ..settings() }).await;
        let held = request(&office.desk, "DROP TABLE payments");
        let held = NewRequest { wait: false, mode: Some(ApprovalMode::Wait), ..held };
        assert!(matches!(office.ask(held).await.await, Decision::Ticket { .. }));
    });
}

#[test]
fn a_grant_that_is_outdated_is_marked() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        office.desk.outdated(&id);
        office.approve(&id, &dba("dana")).await.unwrap();
        assert!(matches!(waiting.await, Decision::Approved { .. }), "it was not used yet");
        office.desk.outdated(&id);
        let _behind = office.ask(request(&office.desk, "DROP TABLE t2")).await;
        assert_eq!(office.only(ApprovalState::Outdated).await.id, id);
        let changes = office.changes();
        assert_eq!(
            changes[..4],
            ["requested bot", "approved dana", "consumed bot", "outdated bot"]
        );
    });
}
