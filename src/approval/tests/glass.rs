//! Breaking the glass: one person alone, for anything, but never in silence.

use super::*;

const WHY: &str = "outage 4711, on call alone";

fn on_call(name: &str) -> Approver {
    Approver { identity: name.into(), groups: vec!["on-call".into()] }
}

fn with_glass() -> Approvals {
    let groups = vec!["on-call".into()];
    Approvals { break_glass_groups: groups, break_glass_reason_chars: 20, ..settings() }
}

#[test]
fn nobody_may_unless_the_configuration_names_a_group() {
    run(async |dir| {
        let office = Office::open(&dir, settings()).await;
        let _waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        for who in [on_call("olga"), dba("dana"), on_call("bot")] {
            let refused = office.desk.break_glass(&id, &who, WHY).await.unwrap_err();
            assert!(matches!(refused, VoteRefused::NoGlass(_)), "{refused}");
        }
        assert_eq!(office.only(ApprovalState::Pending).await.votes, []);
        assert_eq!(office.desk.broken_glass(), 0);
    });
}

#[test]
fn it_takes_one_person_and_a_reason() {
    run(async |dir| {
        let office = Office::open(&dir, with_glass()).await;
        let many = NewRequest { approvers: 3, ..request(&office.desk, "DROP TABLE payments") };
        let waiting = office.ask(many).await;
        let id = office.only(ApprovalState::Pending).await.id;
        let padded = format!("outage{}", " ".repeat(40));
        for short in ["", "outage", padded.as_str()] {
            let refused = office.desk.break_glass(&id, &on_call("olga"), short).await.unwrap_err();
            assert!(matches!(refused, VoteRefused::ReasonTooShort(20)), "{refused}");
        }
        let asked = office.desk.break_glass(&id, &dba("dana"), WHY).await.unwrap_err();
        assert!(matches!(asked, VoteRefused::NoGlass(_)), "an approver is not on call: {asked}");
        let broken = office.desk.break_glass(&id, &on_call("olga"), WHY).await.unwrap();
        let vote = broken.votes.last().unwrap();
        assert!(vote.break_glass && vote.approve && vote.reason == WHY, "{vote:?}");
        assert_eq!(waiting.await, Decision::Approved { id, by: vec!["olga".into()] });
        assert_eq!(office.changes(), ["requested bot", "break_glass olga", "consumed bot"]);
        assert_eq!(office.desk.broken_glass(), 1);
    });
}

#[test]
fn one_may_for_oneself_but_a_plain_vote_stays_another_thing() {
    run(async |dir| {
        let office = Office::open(&dir, with_glass()).await;
        let mut own = request(&office.desk, "DROP TABLE payments");
        own.on_behalf_of = Some("olga".into());
        own.identity = "olga".into();
        let waiting = office.ask(own).await;
        let id = office.only(ApprovalState::Pending).await.id;
        let both =
            Approver { identity: "olga".into(), groups: vec!["on-call".into(), "dba".into()] };
        let vote = office.approve(&id, &both).await.unwrap_err();
        assert!(matches!(vote, VoteRefused::OwnRequest(_)), "{vote}");
        office.desk.break_glass(&id, &both, WHY).await.unwrap();
        assert!(matches!(waiting.await, Decision::Approved { .. }));
        let late = office.desk.break_glass(&id, &both, WHY).await.unwrap_err();
        assert!(matches!(late, VoteRefused::Closed { .. }), "{late}");
    });
}

#[test]
fn what_is_not_recorded_is_not_broken() {
    run(async |dir| {
        let office = Office::open(&dir, with_glass()).await;
        let _waiting = office.ask(request(&office.desk, "DROP TABLE payments")).await;
        let id = office.only(ApprovalState::Pending).await.id;
        office.record_fails.store(true, Ordering::Relaxed);
        let refused = office.desk.break_glass(&id, &on_call("olga"), WHY).await.unwrap_err();
        assert!(matches!(refused, VoteRefused::NotRecorded), "{refused}");
        assert_eq!(office.desk.broken_glass(), 0);
    });
}
