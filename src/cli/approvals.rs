//! `rowgate approvals …`.

use super::admin::{Admin, segment};
use super::args::{ApprovalVerb, StateFilter};
use super::output::{Sheet, time, visible};
use super::{CliError, Context};
use crate::control::{ApprovalList, ReasonRequest};
use crate::store::{Approval, ApprovalState};

pub(super) fn run(context: &Context, verb: ApprovalVerb) -> Result<(), CliError> {
    match verb {
        ApprovalVerb::List { state } => list(context, state),
        ApprovalVerb::Show { id } => {
            let path = format!("/v1/approvals/{}", segment(&id)?);
            let approval: Approval = Admin::of(context)?.read(&path)?;
            context.one(&approval, &described(&approval))
        }
        ApprovalVerb::Approve { id, reason } => decide(context, &id, "approve", reason),
        ApprovalVerb::Deny { id, reason } => decide(context, &id, "deny", reason),
        ApprovalVerb::Cancel { id, reason } => decide(context, &id, "cancel", reason),
    }
}

fn list(context: &Context, state: StateFilter) -> Result<(), CliError> {
    let state = match state {
        StateFilter::Pending => Some(ApprovalState::Pending),
        StateFilter::Approved => Some(ApprovalState::Approved),
        StateFilter::Denied => Some(ApprovalState::Denied),
        StateFilter::Cancelled => Some(ApprovalState::Cancelled),
        StateFilter::Expired => Some(ApprovalState::Expired),
        StateFilter::Consumed => Some(ApprovalState::Consumed),
        StateFilter::All => None,
    };
    let path = match state {
        Some(state) => format!("/v1/approvals?state={}", state.as_str()),
        None => "/v1/approvals".to_owned(),
    };
    let list: ApprovalList = Admin::of(context)?.read(&path)?;
    let header = ["ID", "STATE", "IDENTITY", "TARGET", "RULE", "ASKED", "EXPIRES", "STATEMENT"];
    let rows = list.approvals.iter().map(|approval| {
        [
            approval.id.clone(),
            state_of(approval),
            approval.identity.clone(),
            approval.target.clone(),
            approval.rule.clone(),
            time(approval.created_us),
            time(approval.expires_us),
            approval.statement.clone(),
        ]
    });
    context.list(&list, header, rows)
}

fn decide(context: &Context, id: &str, verb: &str, reason: String) -> Result<(), CliError> {
    let path = format!("/v1/approvals/{}/{verb}", segment(id)?);
    let approval: Approval = Admin::of(context)?.post(&path, &ReasonRequest { reason })?;
    let missing = missing(&approval);
    let outcome = match approval.state {
        ApprovalState::Pending => format!("is approved by you, and needs {missing} more"),
        state => format!("is {}", state.as_str()),
    };
    let text = format!(
        "{} {outcome}: {} on {}, asked by {}",
        approval.id,
        visible(&approval.verb),
        visible(&approval.target),
        visible(&approval.identity)
    );
    context.one(&approval, &text)
}

/// `pending`, or `pending 1/2` where it takes more than one.
fn state_of(approval: &Approval) -> String {
    let state = approval.state.as_str();
    if approval.state == ApprovalState::Pending && approval.approvers > 1 {
        let needed = usize::from(approval.approvers);
        return format!("{state} {}/{needed}", needed - missing(approval));
    }
    state.to_owned()
}

fn missing(approval: &Approval) -> usize {
    let given = approval.votes.iter().filter(|vote| vote.approve).count();
    usize::from(approval.approvers).saturating_sub(given)
}

/// Everything that an approver needs, statement last and whole.
fn described(approval: &Approval) -> String {
    let mut sheet = Sheet::default();
    let mut line = |name: &str, value: &str| sheet.line(name, value);
    line("id", &approval.id);
    line("state", &state_of(approval));
    line("identity", &format!("{} ({})", approval.identity, approval.groups.join(", ")));
    if let Some(person) = &approval.on_behalf_of {
        line("on behalf of", person);
    }
    line("target", &approval.target);
    line("schema", approval.schema.as_deref().unwrap_or("-"));
    line("session", &approval.session.to_string());
    line("verb", &approval.verb);
    line("tables", &approval.tables.join(", "));
    line("rule", &format!("{}: {}", approval.rule, approval.message));
    line(
        "approvers",
        &format!("{} of {}", approval.approvers, approval.approver_groups.join(", ")),
    );
    line("asked", &time(approval.created_us));
    line("expires", &time(approval.expires_us));
    for vote in &approval.votes {
        let word = if vote.approve { "approved" } else { "denied" };
        line(word, &format!("by {} at {}: {}", vote.by, time(vote.at_us), vote.reason));
    }
    sheet.block("statement", &approval.statement);
    sheet.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{HoldMode, Vote};

    fn approval() -> Approval {
        Approval {
            id: "apr_1".into(),
            state: ApprovalState::Pending,
            mode: HoldMode::Wait,
            identity: "bot".into(),
            on_behalf_of: Some("carl".into()),
            groups: vec!["agents".into()],
            target: "shop".into(),
            schema: None,
            session: 7,
            statement: "DELETE FROM t\n WHERE note = '\x1b[2Jhi'".into(),
            digest: "00".into(),
            verb: "delete".into(),
            tables: vec!["shop.t".into()],
            rule: "hold-delete".into(),
            message: "a person must agree".into(),
            approver_groups: vec!["dba".into(), "leads".into()],
            approvers: 2,
            votes: vec![Vote { by: "ann".into(), approve: true, reason: "ok".into(), at_us: 0 }],
            told: false,
            grant_key: [0; 32],
            created_us: 0,
            expires_us: 900_000_000,
        }
    }

    #[test]
    fn an_approver_sees_all_of_it_and_nothing_steers_the_terminal() {
        insta::assert_snapshot!(described(&approval()), @r"
        id           apr_1
        state        pending 1/2
        identity     bot (agents)
        on behalf of carl
        target       shop
        schema       -
        session      7
        verb         delete
        tables       shop.t
        rule         hold-delete: a person must agree
        approvers    2 of dba, leads
        asked        1970-01-01 00:00:00Z
        expires      1970-01-01 00:15:00Z
        approved     by ann at 1970-01-01 00:00:00Z: ok
        statement
            DELETE FROM t
             WHERE note = '\u{1b}[2Jhi'
        ");
    }
}
