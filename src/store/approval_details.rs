//! What an approver is shown of a request beside its statement, and what was decided before on others of its shape.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::approvals::{Approval, ApprovalState, Vote};
use super::{Store, StoreError};

/// Past decisions that are shown: enough to see a habit.
const PAST: u32 = 5;

/// What an approver is shown beside the statement. Facts for people: nothing is decided by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Details {
    /// From where it was asked: an address, or `localhost`.
    pub source: String,
    /// What its client says of the run that it is part of, by name.
    pub run: BTreeMap<String, String>,
    /// The query attributes that came with it, which it may read.
    pub attributes: Vec<Named>,
    /// Its shape: `?` in place of each literal.
    pub shape: String,
    /// The statement over several lines; none: it is short, or has lines of its own. What runs is the statement.
    pub layout: Option<String>,
    /// The labels of its tables and their columns, by table; those without any are left out.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// How many rows the database expects to look at; none: it was not asked, or did not say in time.
    pub estimated_rows: Option<u64>,
}

impl Details {
    /// Roughly what it takes, in bytes.
    pub fn size(&self) -> usize {
        /// Names, quotes and commas around a value.
        const AROUND: usize = 64;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let parameters = self.parameters.iter().map(|one| AROUND + text(&one.value));
        let attributes = self.attributes.iter().map(|one| AROUND + text(&one.value));
        parameters.sum::<usize>() + attributes.sum::<usize>()
    }
}

/// A name and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The value, with what is no text escaped; none is NULL.
    pub value: Option<String>,
}

/// A parameter's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Parameter {
    /// Of a bulk execution: which of its rows, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<usize>,
    /// The column that it is written to or compared with, where that is plain to see.
    #[serde(default)]
    pub column: Option<String>,
    /// What it is on the wire, such as `string` or `integer`: `'0'` and `0` find other rows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The labels of that column, because of which the value is not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    /// The value; none is NULL, or not shown.
    pub value: Option<String>,
}

/// What became of an earlier request for a statement of the same shape.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Past {
    /// The request.
    pub id: String,
    /// What became of it.
    pub state: ApprovalState,
    /// Who asked.
    pub identity: String,
    /// What was said.
    pub votes: Vec<Vote>,
    /// Microseconds since the epoch, when it was asked.
    pub created_us: i64,
}

impl Store {
    /// The last requests on the same target for statements of the same shape on which somebody decided, newest first.
    pub async fn decided_like(&self, approval: &Approval) -> Result<Vec<Past>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approvals
             WHERE digest = ? AND target = ? AND id <> ? AND created_us <= ? AND votes <> '[]'
             ORDER BY created_us DESC, id LIMIT ?",
        )
        .bind(&approval.digest)
        .bind(&approval.target)
        .bind(&approval.id)
        .bind(approval.created_us)
        .bind(PAST)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Past {
                    id: row.try_get("id")?,
                    state: ApprovalState::from_word(row.try_get("state")?)
                        .ok_or(StoreError::Malformed("state of approval"))?,
                    identity: row.try_get("identity")?,
                    votes: super::from_json(row, "votes")?,
                    created_us: row.try_get("created_us")?,
                })
            })
            .collect()
    }
}
