//! A held statement: people are asked, and what they agreed to is checked again before it runs.

use std::rc::Rc;
use std::sync::Arc;

use super::{Activity, Pump, Stop, attributes};
use crate::approval::{
    Decision as Answer, DeskFull, GrantKey, GrantScope, MAX_STATEMENT_BYTES, NewRequest,
};
use crate::fault::Fault;
use crate::net::decide::Decision;
use crate::policy::{Effect, Hold};
use crate::run::Names;
use crate::schema::SqlMode;
use crate::session::{Ruling, Statement, StatementKind};
use crate::sql;

/// Said where nobody can tell whether the tables are still what people were shown.
const UNSEEN_SCHEMA: &str = "the database's schema can't be looked at again before this runs, so the approval is void; send \
                             the statement again to ask anew";

impl Pump {
    /// Asks people and waits for their word, with an eye on the client. Rules and tables may have changed while they
    /// thought: what is no longer what they agreed to is asked anew, under the rules of now.
    pub(super) async fn hold(
        &mut self,
        statement: &Statement,
        decision: Decision,
    ) -> Result<Ruling, Stop> {
        let mut decision = decision;
        loop {
            let Effect::Hold(hold) = &decision.shape.effect else {
                return Ok(Ruling::RefuseAndClose(Fault::internal()));
            };
            let estimate = self.estimate(statement, &decision).await?;
            let request = match self.new_request(statement, &decision, hold) {
                Ok(request) => with_estimate(request, estimate),
                Err(fault) => return Ok(Ruling::Refuse(fault)),
            };
            let agreed_to = request.grant_key;
            let id = match self.ask_people(request).await? {
                Ok(id) => id,
                Err(fault) => return Ok(Ruling::Refuse(fault)),
            };
            if let Some(fault) = self.no_longer_admitted() {
                return Ok(Ruling::RefuseAndClose(fault));
            }
            let today = match self.decide_today(statement).await? {
                Ok(today) => today,
                Err(fault) => {
                    self.worker.shared.desk.outdated(&id);
                    return Ok(Ruling::Refuse(fault));
                }
            };
            match &today.shape.effect {
                Effect::Deny { rule, message } => {
                    self.worker.shared.desk.outdated(&id);
                    let refusal = today.shape.refusal.clone();
                    let refusal = refusal.unwrap_or_else(|| Fault::denied(rule, message));
                    return Ok(Ruling::Refuse(refusal));
                }
                Effect::Hold(hold) if !self.is_as_agreed(statement, &today, hold, agreed_to) => {
                    self.worker.shared.desk.outdated(&id);
                    decision = today;
                }
                Effect::Allow | Effect::Hold(_) => return self.admit_statement(&today).await,
            }
        }
    }

    /// The approved request, or why the statement may not run.
    async fn ask_people(&mut self, request: NewRequest) -> Result<Result<String, Fault>, Stop> {
        let worker = Rc::clone(&self.worker);
        let desk = &worker.shared.desk;
        let waiting = match desk.request(request) {
            Ok(waiting) => waiting,
            Err(full) => return Ok(Err(full.into())),
        };
        let asked = self.now;
        self.activity(Activity::Held);
        // Dropping the future, as the client's death does, calls the request off.
        let answer = self.while_client_lives(waiting).await?;
        self.activity(Activity::Running);
        self.now = worker.now();
        self.current.held(asked, self.now);
        Ok(match (desk.fault(&answer), answer) {
            (Some(fault), _) => Err(fault),
            (None, Answer::Approved { id, .. }) => Ok(id),
            // (Every other answer has a fault.)
            (None, _) => Err(Fault::internal()),
        })
    }

    /// The verdict of now: by the rules of now, over the tables as they are now. A look at the schema is worth its while
    /// here, since what people agreed to is rare and matters.
    async fn decide_today(
        &mut self,
        statement: &Statement,
    ) -> Result<Result<Decision, Fault>, Stop> {
        let shared = Arc::clone(&self.worker.shared);
        let looked = self.while_client_lives(shared.schemas.refresh(self.target_index)).await?;
        self.now = self.worker.now();
        if !looked {
            return Ok(Err(Fault::approval("RG-UNAVAILABLE", &[], UNSEEN_SCHEMA)));
        }
        let Some(today) = self.decide(statement) else { return Ok(Err(Fault::internal())) };
        let today = self.adjusted(statement, today);
        self.follow(statement.kind, &today.shape);
        Ok(Ok(today))
    }

    /// Whether what would be asked for now is what was agreed to.
    fn is_as_agreed(
        &self,
        statement: &Statement,
        today: &Decision,
        hold: &Hold,
        agreed_to: GrantKey,
    ) -> bool {
        let asked = self.new_request(statement, today, hold);
        asked.is_ok_and(|request| request.grant_key == agreed_to)
    }

    /// Whether a statement reads variables: their values are not in its text.
    fn has_variables(&self, text: &[u8], mode: SqlMode) -> bool {
        self.worker.with_snapshot(|snapshot| {
            let catalog = snapshot.catalogs.get(self.target_index).and_then(Option::as_ref);
            catalog.is_none_or(|catalog| sql::has_variables(text, &catalog.profile, mode))
        })
    }

    /// What of that an approval is good for: whatever rules heed, but for the trace, which is another one each time.
    fn bound(&self) -> Names {
        let heeded = self.worker.with_snapshot(|snapshot| snapshot.policies.heeds());
        heeded.but(Names::TRACEPARENT)
    }

    fn new_request(
        &self,
        statement: &Statement,
        decision: &Decision,
        hold: &Hold,
    ) -> Result<NewRequest, Fault> {
        let facets = self.session.facets().ok_or_else(Fault::internal)?;
        let shape = &decision.shape;
        let text = decision.canonical.as_deref().unwrap_or_else(|| self.text(statement));
        let parameters =
            self.session.bound_parameters(self.client.peek()).ok_or_else(unseen_parameters)?;
        // Before anything is made of it: it may be as long as a statement may be.
        if text.len() + parameters.len() > MAX_STATEMENT_BYTES {
            return Err(DeskFull::TooLong.into());
        }
        let attributes = self.session.attributes(self.client.peek());
        let run = self.said(decision, Names::ALL);
        if self.has_variables(text, facets.sql_mode) {
            let why = "this statement needs approval, and an approver can't see what its variables hold: \
                       write their values in";
            return Err(Fault::approval("RG-PARAMETERS", &[], why));
        }
        let scope = GrantScope {
            target: &self.target.runtime.name,
            schema: facets.schema,
            sql_mode: facets.sql_mode,
            charset: self.session.upstream_key().collation,
            settings: self.sets.as_ref().map_or([0; 32], |sets| sets.digest()),
            attributes: attributes::digest(attributes.clone(), run.only(self.bound())),
            // A comment around it that says something else may be longer or shorter.
            canonical: text.trim_ascii(),
            bulk: statement.kind == StatementKind::BulkExecute,
            parameters: &parameters,
            rule: &hold.rule,
            approver_groups: &hold.approver_groups,
            approvers: hold.approvers,
            masked: &shape.masked,
            tables: shape.held.as_ref().map_or([0; 32], |held| held.digest),
        };
        Ok(NewRequest {
            identity: facets.principal.subject.clone(),
            groups: facets.principal.groups.clone(),
            target: self.target.runtime.name.clone(),
            schema: facets.schema.map(str::to_owned),
            session: self.id,
            statement: shown(text),
            details: self.details(statement, decision, text)?,
            on_behalf_of: run.on_behalf_of().map(str::to_owned),
            digest: shape.digest.to_string(),
            verb: shape.verb.as_str().to_owned(),
            tables: shape.tables.clone(),
            rule: hold.rule.clone(),
            message: hold.message.clone(),
            approver_groups: hold.approver_groups.clone(),
            approvers: hold.approvers,
            grant_key: self.worker.shared.desk.grant_key(&scope),
            wait: !facets.in_transaction && !self.locked,
            mode: hold.mode,
        })
    }
}

fn with_estimate(mut request: NewRequest, estimate: Option<u64>) -> NewRequest {
    request.details.estimated_rows = estimate;
    request
}

/// The text, with the bytes written out that are no UTF-8: it may be in another character set.
fn shown(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        shown.push_str(chunk.valid());
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    shown
}

/// Said of a statement whose parameters did not all come with it.
pub(super) fn unseen_parameters() -> Fault {
    let why = "this statement needs approval, and its parameters must all come with it: prepare it again, and send no \
               long data";
    Fault::approval("RG-PARAMETERS", &[], why)
}
