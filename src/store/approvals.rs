//! Approvals as rows. A change of state names the state it starts from, so that a grant can't be consumed twice.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::approval_details::Details;
use super::{Store, StoreError, from_json, to_json};

/// A request for approval, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Approval {
    /// `apr_…`.
    pub id: String,
    /// What became of it.
    pub state: ApprovalState,
    /// Whether its client waits on the line.
    pub mode: HoldMode,
    /// Who asked.
    pub identity: String,
    /// The person on whose behalf it asked.
    pub on_behalf_of: Option<String>,
    /// The requester's groups.
    pub groups: Vec<String>,
    /// On which target.
    pub target: String,
    /// In which database.
    pub schema: Option<String>,
    /// The gateway's id of the session that asked.
    pub session: u64,
    /// The text that will run: what the approver must see.
    pub statement: String,
    /// The digest of its shape, in hex.
    pub digest: String,
    /// The verb, in lower case.
    pub verb: String,
    /// The tables it touches, as `schema.table`.
    pub tables: Vec<String>,
    /// The id of the rule that held it.
    pub rule: String,
    /// That rule's message.
    pub message: String,
    /// What its approver is shown besides.
    #[serde(default)]
    pub details: Details,
    /// Whose members may decide.
    pub approver_groups: Vec<String>,
    /// How many distinct approvers it needs.
    pub approvers: u8,
    /// What was said so far.
    pub votes: Vec<Vote>,
    /// The requester has learnt of the denial.
    #[serde(skip)]
    pub told: bool,
    /// What the grant is bound to. Not for the API: it would let a reader test guesses.
    #[serde(skip)]
    pub grant_key: [u8; 32],
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// When the request, or the grant not yet used, ends.
    pub expires_us: i64,
}

/// One approver's word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Vote {
    /// Who.
    pub by: String,
    /// Yes or no.
    pub approve: bool,
    /// Yes for everybody else too: by one person alone, in an emergency.
    #[serde(default)]
    pub break_glass: bool,
    /// Why.
    pub reason: String,
    /// Microseconds since the epoch.
    pub at_us: i64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalState {
    /// Waits for approvers.
    Pending,
    /// Granted, not yet used.
    Approved,
    /// Refused by an approver.
    Denied,
    /// Its client went away, or someone called it off.
    Cancelled,
    /// Nobody decided in time, or the grant wasn't used in time.
    Expired,
    /// The grant was used.
    Consumed,
    /// The grant was used, but what it was given for had changed: the statement did not run.
    Outdated,
}

impl ApprovalState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Approved,
        Self::Denied,
        Self::Cancelled,
        Self::Expired,
        Self::Consumed,
        Self::Outdated,
    ];

    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Consumed => "consumed",
            Self::Outdated => "outdated",
        }
    }

    /// The state of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// How the requester learns of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldMode {
    /// Its connection waits.
    Wait,
    /// It was answered with the id, and sends the statement again.
    Ticket,
}

impl HoldMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Ticket => "ticket",
        }
    }
}

impl Store {
    /// Keeps a new request.
    pub async fn insert_approval(&self, approval: &Approval) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO approvals (id, state, mode, identity, on_behalf_of, groups, target, schema,
                 session, statement, digest, verb, tables, rule, message, approver_groups,
                 approvers, votes, told, grant_key, created_us, expires_us, details)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&approval.id)
        .bind(approval.state.as_str())
        .bind(approval.mode.as_str())
        .bind(&approval.identity)
        .bind(&approval.on_behalf_of)
        .bind(to_json(&approval.groups))
        .bind(&approval.target)
        .bind(&approval.schema)
        .bind(approval.session.cast_signed())
        .bind(&approval.statement)
        .bind(&approval.digest)
        .bind(&approval.verb)
        .bind(to_json(&approval.tables))
        .bind(&approval.rule)
        .bind(&approval.message)
        .bind(to_json(&approval.approver_groups))
        .bind(approval.approvers)
        .bind(votes(&approval.votes)?)
        .bind(approval.told)
        .bind(approval.grant_key.as_slice())
        .bind(approval.created_us)
        .bind(approval.expires_us)
        .bind(details(&approval.details)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// One request.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>, StoreError> {
        let row = sqlx::query("SELECT * FROM approvals WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(Approval::from_row).transpose()
    }

    /// Requests in this state (or all), newest first.
    pub async fn approvals(
        &self,
        state: Option<ApprovalState>,
        limit: u32,
    ) -> Result<Vec<Approval>, StoreError> {
        let word = state.map(ApprovalState::as_str);
        let rows = sqlx::query(
            "SELECT * FROM approvals WHERE ?1 IS NULL OR state = ?1
             ORDER BY created_us DESC, id LIMIT ?2",
        )
        .bind(word)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Approval::from_row).collect()
    }

    /// How many wait for approvers.
    pub async fn pending_approvals(&self) -> Result<usize, StoreError> {
        let row = sqlx::query("SELECT count(*) AS n FROM approvals WHERE state = 'pending'")
            .fetch_one(&self.pool)
            .await?;
        let n: i64 = row.try_get("n")?;
        Ok(usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// How many of this identity's wait for approvers.
    pub async fn pending_approvals_of(&self, identity: &str) -> Result<usize, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS n FROM approvals WHERE state = 'pending' AND identity = ?",
        )
        .bind(identity)
        .fetch_one(&self.pool)
        .await?;
        let n: i64 = row.try_get("n")?;
        Ok(usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// What is open for this identity and grant: granted first, then denied but not yet told, then pending, oldest first.
    pub async fn open_approvals(
        &self,
        identity: &str,
        grant_key: &[u8; 32],
        now_us: i64,
    ) -> Result<Vec<Approval>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approvals
             WHERE identity = ? AND grant_key = ? AND expires_us > ?
               AND (state IN ('approved', 'pending') OR (state = 'denied' AND told = 0))
             ORDER BY CASE state WHEN 'approved' THEN 0 WHEN 'denied' THEN 1 ELSE 2 END, created_us",
        )
        .bind(identity)
        .bind(grant_key.as_slice())
        .bind(now_us)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Approval::from_row).collect()
    }

    /// Writes what can change of a request, if it is still in the state `from`. False when it isn't: someone was faster.
    pub async fn change_approval(
        &self,
        approval: &Approval,
        from: ApprovalState,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE approvals SET state = ?, mode = ?, votes = ?, told = ?, expires_us = ?
             WHERE id = ? AND state = ?",
        )
        .bind(approval.state.as_str())
        .bind(approval.mode.as_str())
        .bind(votes(&approval.votes)?)
        .bind(approval.told)
        .bind(approval.expires_us)
        .bind(&approval.id)
        .bind(from.as_str())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Requests pending or granted whose time is over.
    pub async fn overdue_approvals(&self, now_us: i64) -> Result<Vec<Approval>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approvals
             WHERE state IN ('pending', 'approved') AND expires_us <= ? ORDER BY expires_us",
        )
        .bind(now_us)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Approval::from_row).collect()
    }

    /// At start no client waits any more: what was pending becomes a ticket. Returns how many did.
    pub async fn pending_become_tickets(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE approvals SET mode = 'ticket' WHERE state = 'pending' AND mode = 'wait'",
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Drops requests that ended before this time: the record has them, the store would grow without end.
    pub async fn forget_approvals(&self, before_us: i64) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM approvals
             WHERE state NOT IN ('pending', 'approved') AND expires_us < ? AND created_us < ?",
        )
        .bind(before_us)
        .bind(before_us)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Approval {
    /// Whether it was asked for on behalf of this person. However its client writes the name: who might be meant decides nothing.
    pub fn is_for(&self, identity: &str) -> bool {
        let person = self.on_behalf_of.as_deref();
        person.is_some_and(|person| person.to_lowercase() == identity.to_lowercase())
    }

    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        let grant_key: &[u8] = row.try_get("grant_key")?;
        let session: i64 = row.try_get("session")?;
        let mode = match row.try_get("mode")? {
            "wait" => HoldMode::Wait,
            "ticket" => HoldMode::Ticket,
            _ => return Err(StoreError::Malformed("mode of approval")),
        };
        Ok(Self {
            id: row.try_get("id")?,
            state: ApprovalState::from_word(row.try_get("state")?)
                .ok_or(StoreError::Malformed("state of approval"))?,
            mode,
            identity: row.try_get("identity")?,
            on_behalf_of: row.try_get("on_behalf_of")?,
            groups: from_json(row, "groups")?,
            target: row.try_get("target")?,
            schema: row.try_get("schema")?,
            session: session.cast_unsigned(),
            statement: row.try_get("statement")?,
            digest: row.try_get("digest")?,
            verb: row.try_get("verb")?,
            tables: from_json(row, "tables")?,
            rule: row.try_get("rule")?,
            message: row.try_get("message")?,
            details: from_json(row, "details")?,
            approver_groups: from_json(row, "approver_groups")?,
            approvers: row.try_get("approvers")?,
            votes: from_json(row, "votes")?,
            told: row.try_get("told")?,
            grant_key: grant_key.try_into().map_err(|_| StoreError::Malformed("grant key"))?,
            created_us: row.try_get("created_us")?,
            expires_us: row.try_get("expires_us")?,
        })
    }
}

fn details(details: &Details) -> Result<String, StoreError> {
    serde_json::to_string(details).map_err(|_| StoreError::Malformed("details"))
}

fn votes(votes: &[Vote]) -> Result<String, StoreError> {
    serde_json::to_string(votes).map_err(|_| StoreError::Malformed("votes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::block_on;

    fn approval(id: &str, created_us: i64) -> Approval {
        Approval {
            id: id.into(),
            state: ApprovalState::Pending,
            mode: HoldMode::Wait,
            identity: "bot".into(),
            on_behalf_of: Some("carl".into()),
            groups: vec!["agents".into()],
            target: "shop".into(),
            schema: Some("shop".into()),
            session: u64::MAX,
            statement: "DROP TABLE payments".into(),
            digest: "00ff".into(),
            verb: "drop".into(),
            tables: vec!["shop.payments".into()],
            rule: "hold-drop".into(),
            message: "dropping needs a person".into(),
            details: Details { source: "::1".into(), ..Details::default() },
            approver_groups: vec!["dba".into()],
            approvers: 2,
            votes: vec![Vote {
                by: "ann".into(),
                approve: true,
                break_glass: false,
                reason: String::new(),
                at_us: 3,
            }],
            told: false,
            grant_key: [7; 32],
            created_us,
            expires_us: created_us + 100,
        }
    }

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            let one = approval("apr_1", 1);
            let two = Approval { schema: None, on_behalf_of: None, ..approval("apr_2", 2) };
            store.insert_approval(&one).await.unwrap();
            store.insert_approval(&two).await.unwrap();
            assert_eq!(store.approval("apr_1").await.unwrap(), Some(one.clone()));
            assert_eq!(store.approval("apr_x").await.unwrap(), None);
            assert_eq!(store.approvals(None, 9).await.unwrap(), [two.clone(), one]);
            assert_eq!(store.approvals(None, 1).await.unwrap(), [two]);
            let denied = store.approvals(Some(ApprovalState::Denied), 9).await.unwrap();
            assert_eq!(denied, []);
            assert_eq!(store.pending_approvals().await.unwrap(), 2);
        });
    }

    #[test]
    fn a_state_is_left_once() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            let mut one = approval("apr_1", 1);
            store.insert_approval(&one).await.unwrap();
            one.state = ApprovalState::Approved;
            assert!(store.change_approval(&one, ApprovalState::Pending).await.unwrap());
            one.state = ApprovalState::Consumed;
            assert!(store.change_approval(&one, ApprovalState::Approved).await.unwrap());
            assert!(!store.change_approval(&one, ApprovalState::Approved).await.unwrap());
        });
    }

    #[test]
    fn open_ones_are_of_the_same_identity_and_key_and_in_time() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            store.insert_approval(&approval("apr_pending", 1)).await.unwrap();
            let approved = Approval { state: ApprovalState::Approved, ..approval("apr_yes", 2) };
            store.insert_approval(&approved).await.unwrap();
            let told =
                Approval { state: ApprovalState::Denied, told: true, ..approval("apr_no", 3) };
            store.insert_approval(&told).await.unwrap();
            let ids = async |identity: &str, key: [u8; 32], now: i64| {
                let open = store.open_approvals(identity, &key, now).await.unwrap();
                open.into_iter().map(|approval| approval.id).collect::<Vec<_>>()
            };
            assert_eq!(ids("bot", [7; 32], 50).await, ["apr_yes", "apr_pending"]);
            assert_eq!(ids("bot", [7; 32], 101).await, ["apr_yes"]);
            assert_eq!(ids("bot", [8; 32], 50).await, [""; 0]);
            assert_eq!(ids("eve", [7; 32], 50).await, [""; 0]);
            assert_eq!(store.overdue_approvals(101).await.unwrap().len(), 1);
        });
    }

    #[test]
    fn what_was_decided_on_the_same_shape_is_found() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            for n in 1..=7 {
                let state = ApprovalState::Denied;
                let one = Approval { state, ..approval(&format!("apr_{n}"), n) };
                store.insert_approval(&one).await.unwrap();
            }
            let unsaid = Approval { votes: vec![], ..approval("apr_8", 8) };
            let other = Approval { digest: "01".into(), ..approval("apr_9", 9) };
            let elsewhere = Approval { target: "lab".into(), ..approval("apr_10", 10) };
            for one in [&unsaid, &other, &elsewhere] {
                store.insert_approval(one).await.unwrap();
            }
            let past = store.decided_like(&approval("apr_7", 20)).await.unwrap();
            let ids: Vec<_> = past.iter().map(|past| past.id.as_str()).collect();
            assert_eq!(ids, ["apr_6", "apr_5", "apr_4", "apr_3", "apr_2"]);
            assert_eq!((past[0].state, past[0].votes.len()), (ApprovalState::Denied, 1));
        });
    }

    #[test]
    fn old_and_finished_ones_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            let over = Approval { state: ApprovalState::Consumed, ..approval("apr_over", 1) };
            store.insert_approval(&over).await.unwrap();
            store.insert_approval(&approval("apr_pending", 1)).await.unwrap();
            assert_eq!(store.forget_approvals(100).await.unwrap(), 0);
            assert_eq!(store.forget_approvals(1_000).await.unwrap(), 1);
            assert_eq!(store.approvals(None, 9).await.unwrap().len(), 1);
        });
    }
}
