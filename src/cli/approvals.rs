//! `rowgate approvals …`.

use super::admin::{Admin, segment};
use super::args::{ApprovalVerb, StateFilter};
use super::output::{Sheet, time, visible};
use super::{CliError, Context};
use crate::control::{ApprovalList, ReasonRequest, ShownApproval};
use crate::store::{Approval, ApprovalState, Details, Vote};

pub(super) fn run(context: &Context, verb: ApprovalVerb) -> Result<(), CliError> {
    match verb {
        ApprovalVerb::List { state } => list(context, state),
        ApprovalVerb::Watch => super::watch::run(context),
        ApprovalVerb::Show { id } => {
            let path = format!("/v1/approvals/{}", segment(&id)?);
            let shown: ShownApproval = Admin::of(context)?.read(&path)?;
            context.one(&shown, &described(&shown))
        }
        ApprovalVerb::Approve { id, reason } => decide(context, &id, "approve", reason),
        ApprovalVerb::Deny { id, reason } => decide(context, &id, "deny", reason),
        ApprovalVerb::BreakGlass { id, reason } => decide(context, &id, "break-glass", reason),
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
        StateFilter::Outdated => Some(ApprovalState::Outdated),
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
fn described(shown: &ShownApproval) -> String {
    let ShownApproval { approval, outlook, past } = shown;
    let details = &approval.details;
    let mut sheet = Sheet::default();
    let mut line = |name: &str, value: &str| sheet.line(name, value);
    line("id", &approval.id);
    line("state", &state_of(approval));
    line("identity", &format!("{} ({})", approval.identity, approval.groups.join(", ")));
    if let Some(person) = &approval.on_behalf_of {
        line("on behalf of", person);
    }
    for (name, value) in &details.run {
        line(name, value);
    }
    line("from", &details.source);
    line("target", &approval.target);
    line("schema", approval.schema.as_deref().unwrap_or("-"));
    line("session", &approval.session.to_string());
    line("verb", &approval.verb);
    line("tables", &approval.tables.join(", "));
    for (table, labels) in &details.labels {
        line("labels", &format!("{table}: {}", labels.join(", ")));
    }
    let rows = details.estimated_rows;
    line("rows", &rows.map_or_else(|| "no estimate".to_owned(), |rows| format!("about {rows}")));
    line("rule", &format!("{}: {}", approval.rule, approval.message));
    line(
        "approvers",
        &format!("{} of {}", approval.approvers, approval.approver_groups.join(", ")),
    );
    line("asked", &time(approval.created_us));
    line("expires", &time(approval.expires_us));
    for vote in &approval.votes {
        line(word(vote), &said(vote));
    }
    for past in past {
        let said: Vec<_> =
            past.votes.iter().map(|vote| format!("{} {}", word(vote), said(vote))).collect();
        line("before", &format!("{} of {}: {}", past.id, past.identity, said.join("; ")));
    }
    if approval.state == ApprovalState::Pending {
        line("approving", &shown.would(&time(outlook.grant_until_us)));
    }
    values(&mut sheet, details);
    if let Some(layout) = &details.layout {
        sheet.block("laid out", layout);
    }
    sheet.block("statement", &approval.statement);
    sheet.text()
}

fn word(vote: &Vote) -> &'static str {
    match (vote.approve, vote.break_glass) {
        (true, true) => "broke glass",
        (true, false) => "approved",
        (false, _) => "denied",
    }
}

fn said(vote: &Vote) -> String {
    format!("by {} at {}: {}", vote.by, time(vote.at_us), vote.reason)
}

/// What comes with the statement's text.
fn values(sheet: &mut Sheet, details: &Details) {
    let null = || "NULL".to_owned();
    for attribute in &details.attributes {
        let value = attribute.value.clone().unwrap_or_else(null);
        sheet.line(&format!("query attribute {}:", attribute.name), &value);
    }
    if details.parameters.iter().any(|parameter| parameter.row.is_some()) {
        sheet.line("parameters", "it runs for each of many rows");
    }
    for parameter in &details.parameters {
        let row = parameter.row.map(|row| format!("row {row} "));
        let column = parameter.column.as_deref().unwrap_or("?");
        let value = match parameter.masked.as_slice() {
            [] => match &parameter.value {
                Some(value) if parameter.kind.is_empty() => value.clone(),
                Some(value) => format!("{value} ({})", parameter.kind),
                None => null(),
            },
            labels => format!("(not shown: {})", labels.join(", ")),
        };
        sheet.line("parameter", &format!("{}{column} = {value}", row.unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::Outlook;
    use crate::store::{HoldMode, Parameter, Past};

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
            details: Details {
                source: "192.0.2.7".into(),
                run: [("run_id".to_owned(), "42".to_owned())].into(),
                attributes: vec![],
                shape: String::new(),
                layout: Some("DELETE FROM t\nWHERE note = 'hi'".into()),
                labels: [("shop.t".to_owned(), vec!["pii".to_owned()])].into(),
                parameters: vec![
                    Parameter {
                        column: Some("shop.t.ssn".into()),
                        masked: vec!["pii".into()],
                        ..Parameter::default()
                    },
                    Parameter { value: Some("5\u{202e}".into()), ..Parameter::default() },
                ],
                estimated_rows: Some(7),
            },
            approver_groups: vec!["dba".into(), "leads".into()],
            approvers: 2,
            votes: vec![Vote {
                by: "ann".into(),
                approve: true,
                break_glass: false,
                reason: "ok".into(),
                at_us: 0,
            }],
            told: false,
            grant_key: [0; 32],
            created_us: 0,
            expires_us: 900_000_000,
        }
    }

    #[test]
    fn an_approver_sees_all_of_it_and_nothing_steers_the_terminal() {
        let shown = ShownApproval {
            approval: approval(),
            outlook: Outlook { waits: false, missing: 1, grant_until_us: 900_000_000 },
            past: vec![Past {
                id: "apr_0".into(),
                state: ApprovalState::Denied,
                identity: "bot".into(),
                votes: vec![Vote {
                    by: "ann".into(),
                    approve: false,
                    break_glass: false,
                    reason: "no".into(),
                    at_us: 0,
                }],
                created_us: 0,
            }],
        };
        insta::assert_snapshot!(described(&shown), @r"
        id           apr_1
        state        pending 1/2
        identity     bot (agents)
        on behalf of carl
        run_id       42
        from         192.0.2.7
        target       shop
        schema       -
        session      7
        verb         delete
        tables       shop.t
        labels       shop.t: pii
        rows         about 7
        rule         hold-delete: a person must agree
        approvers    2 of dba, leads
        asked        1970-01-01 00:00:00Z
        expires      1970-01-01 00:15:00Z
        approved     by ann at 1970-01-01 00:00:00Z: ok
        before       apr_0 of bot: denied by ann at 1970-01-01 00:00:00Z: no
        approving    leaves a grant until 1970-01-01 00:15:00Z: it runs once, when its client sends it again
        parameter    shop.t.ssn = (not shown: pii)
        parameter    ? = 5\u{202e}
        laid out
            DELETE FROM t
            WHERE note = 'hi'
        statement
            DELETE FROM t
             WHERE note = '\u{1b}[2Jhi'
        ");
    }
}
