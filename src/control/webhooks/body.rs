//! What a receiver of JSON is told. Facts that the gateway made, names, and what approvers said; never a parameter, and no
//! literal unless the configuration says so.

use serde_json::{Value, json};

use super::Told;
use crate::approval::page_of;
use crate::config::StatementSent;
use crate::store::Approval;
use crate::visible::visible;

/// Longest text of a statement that is sent: receivers show it, and the page has all of it.
pub(super) const MAX_STATEMENT: usize = 8 << 10;

pub(super) fn json(told: &Told, statement: StatementSent, pages: Option<&str>) -> Value {
    let approval = &told.approval;
    json!({
        "version": 1,
        "id": told.id,
        "event": told.event,
        "by": told.by,
        "at_us": told.at_us,
        "approval": {
            "id": approval.id,
            "state": approval.state,
            "url": pages.map(|pages| page_of(pages, &approval.id)),
            "identity": approval.identity,
            "groups": approval.groups,
            "on_behalf_of": approval.on_behalf_of,
            "source": approval.details.source,
            "target": approval.target,
            "schema": approval.schema,
            "verb": approval.verb,
            "digest": approval.digest,
            "statement": said(approval, statement),
            "tables": approval.tables,
            "labels": approval.details.labels,
            "estimated_rows": approval.details.estimated_rows,
            "rule": approval.rule,
            "message": approval.message,
            "approver_groups": approval.approver_groups,
            "approvers": approval.approvers,
            "votes": approval.votes,
            "created_us": approval.created_us,
            "expires_us": approval.expires_us,
        },
    })
}

/// As much of the statement as may be told.
pub(super) fn said(approval: &Approval, statement: StatementSent) -> String {
    let text = match statement {
        StatementSent::Shape => &approval.details.shape,
        StatementSent::Text => &approval.statement,
    };
    visible(&cut(text, MAX_STATEMENT))
}

/// The text, up to so many bytes.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub("…".len()));
    format!("{}…", text.get(..end).unwrap_or_default())
}
