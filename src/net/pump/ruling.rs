//! One statement's ruling: decided, recorded, perhaps held for people, before anything of it goes upstream.

use std::rc::Rc;
use std::sync::Arc;

use super::idle::left_by;
use super::record::Admission;
use super::{Activity, Pump, Stop, attributes};
use crate::approval::{GrantScope, NewRequest};
use crate::codec::{Attributes, Command};
use crate::fault::Fault;
use crate::net::control::End;
use crate::net::decide::{Decision, Query};
use crate::net::io;
use crate::policy::{Asker, Effect, Hold, Policies};
use crate::run::{Names, Run, kept};
use crate::schema::SqlMode;
use crate::session::{Ruling, Statement, StatementKind, Text};
use crate::sql::{self, Trace, Verb};

impl Pump {
    /// Answers [`crate::session::Op::Decide`].
    pub(super) async fn rule(&mut self, statement: &Statement) -> Result<(), Stop> {
        if let StatementKind::Command(command) = statement.kind
            && self.permit_of(command).is_none()
        {
            self.record_refused_command(command);
            let refused = Fault::unsupported_command(command.name());
            self.session.on_ruling(Ruling::Refuse(refused));
            return Ok(());
        }
        let ruling = match self.rule_now(statement) {
            Ruled::Now(ruling) => ruling,
            // It waits for the schema, the disk or people: a box, so that idle sessions don't keep room for it.
            later => Box::pin(self.rule_later(statement, later)).await?,
        };
        if let Ruling::Run { .. } = &ruling {
            self.tainted |= matches!(statement.kind, StatementKind::Command(_));
            if let Some(most) = self.target.runtime.statement_timeout {
                self.control.must_end_by(self.now.after(most), End::StatementTimeout);
            }
            if self.upstream.is_some() {
                if self.current.trace != Trace::None {
                    self.unseen().await?;
                }
                self.past.begins(self.current.leaves);
            }
        }
        self.session.on_ruling(ruling);
        Ok(())
    }

    /// What can be ruled without waiting: almost everything.
    fn rule_now(&mut self, statement: &Statement) -> Ruled {
        if self.worker.draining() {
            return Ruled::Now(Ruling::RefuseAndClose(Fault::shutdown()));
        }
        if let Some(fault) = self.no_longer_admitted() {
            return Ruled::Now(Ruling::RefuseAndClose(fault));
        }
        if self.cell.is_killed() {
            return Ruled::Now(Ruling::RefuseAndClose(super::kill::killed()));
        }
        if let Err(fault) = self.reserve() {
            return Ruled::Now(Ruling::Refuse(fault));
        }
        if self.upstream.is_none() {
            self.reads_by_todays_mode();
        }
        match self.decide(statement) {
            None => Ruled::Now(Ruling::RefuseAndClose(Fault::internal())),
            Some(decision) if decision.shape.unknown_name => Ruled::UnknownName,
            Some(decision) => self.weigh(statement, decision),
        }
    }

    /// Records the intent, and tells what the decision comes to.
    fn weigh(&mut self, statement: &Statement, decision: Decision) -> Ruled {
        let decision = self.without_withheld_texts(decision);
        let decision = self.without_masked_values(statement, decision);
        let decision = match statement.kind {
            StatementKind::Command(command) => self.permitted(command, &decision),
            _ => decision,
        };
        self.now = self.worker.now();
        self.current.decided(self.now);
        let text = self.recorded_text(statement, &decision);
        if let Err(fault) = self.record_intent(statement.kind, &decision, text.as_deref()) {
            return Ruled::Now(Ruling::Refuse(fault));
        }
        let shape = &decision.shape;
        self.current.set = (shape.verb == Verb::Set && statement.kind != StatementKind::Prepare)
            .then(|| self.text(statement).into());
        match &shape.effect {
            Effect::Deny { rule, message } => {
                let refusal = shape.refusal.clone();
                Ruled::Now(Ruling::Refuse(refusal.unwrap_or_else(|| Fault::denied(rule, message))))
            }
            Effect::Hold(_) if is_held(statement.kind) => Ruled::Waits(decision),
            Effect::Allow | Effect::Hold(_) if self.waits_for_disk(shape.verb) => {
                Ruled::Waits(decision)
            }
            Effect::Allow | Effect::Hold(_) => Ruled::Now(decision.run()),
        }
    }

    /// The rule that passes this command on, if there is one.
    fn permit_of(&self, command: Command) -> Option<String> {
        self.asking(|policies, asker| policies.permits_command(asker, command.name()))
    }

    fn permitted(&self, command: Command, decision: &Decision) -> Decision {
        match self.permit_of(command) {
            Some(rule) => decision.permitted_by(rule),
            None => decision.refused("command", "no policy permits this command by its name"),
        }
    }

    /// Asks the policies about this session's identity.
    pub(super) fn asking<T>(
        &self,
        ask: impl FnOnce(&Policies, Asker<'_>) -> Option<T>,
    ) -> Option<T> {
        let facets = self.session.facets()?;
        let asker = Asker {
            principal: facets.principal,
            target: &self.target.runtime.name,
            source: self.cell.source(),
            now_us: self.now.wall_us,
        };
        self.worker.with_snapshot(|snapshot| ask(&snapshot.policies, asker))
    }

    /// Whoever permits SHOW WARNINGS permits the texts of errors and warnings. Once the session has read labelled data,
    /// they may quote it, whatever its columns showed.
    fn without_withheld_texts(&mut self, decision: Decision) -> Decision {
        let shape = &decision.shape;
        if !shape.governed || matches!(shape.effect, Effect::Deny { .. }) {
            return decision;
        }
        if shape.trace == Trace::Messages && self.quotable {
            let message = "errors and warnings may quote the labelled data that this session has used; \
                           log in anew to see those of other statements";
            return decision.refused("withheld-diagnostics", message);
        }
        self.quotable |= shape.rewrite_errors && shape.trace != Trace::Messages;
        decision
    }

    async fn rule_later(&mut self, statement: &Statement, ruled: Ruled) -> Result<Ruling, Stop> {
        let mut ruled = ruled;
        if let Ruled::UnknownName = ruled {
            let Some(decision) = self.decide_by_names(statement).await? else {
                return Ok(Ruling::RefuseAndClose(Fault::internal()));
            };
            ruled = self.weigh(statement, decision);
        }
        match ruled {
            Ruled::Now(ruling) => Ok(ruling),
            Ruled::UnknownName => Ok(Ruling::RefuseAndClose(Fault::internal())),
            Ruled::Waits(decision) => match &decision.shape.effect {
                Effect::Hold(hold) if is_held(statement.kind) => {
                    self.hold(statement, &decision, hold).await
                }
                _ => self.admit_statement(&decision).await,
            },
        }
    }

    /// A decision by the schema of now: a table made a moment ago, behind the gateway or through it, is found by looking
    /// again.
    async fn decide_by_names(&mut self, statement: &Statement) -> Result<Option<Decision>, Stop> {
        let decision = self.decide(statement);
        if !decision.as_ref().is_some_and(|decision| decision.shape.unknown_name) {
            return Ok(decision);
        }
        let shared = Arc::clone(&self.worker.shared);
        self.while_client_lives(shared.schemas.refresh(self.target_index)).await?;
        Ok(self.decide(statement))
    }

    /// Answers [`crate::session::Op::Check`].
    pub(super) async fn check(&mut self, statement: &Statement) -> Result<(), Stop> {
        // Thousands may come in one command.
        io::step_aside().await;
        let ruling = self.checked(statement).await?;
        self.session.on_ruling(ruling);
        Ok(())
    }

    async fn checked(&mut self, statement: &Statement) -> Result<Ruling, Stop> {
        let Some(decision) = self.decide_by_names(statement).await? else {
            return Ok(Ruling::RefuseAndClose(Fault::internal()));
        };
        let decision = self.without_masked_values(statement, decision);
        let shape = Arc::clone(&decision.shape);
        let refusal = match &shape.effect {
            Effect::Allow => return Ok(decision.run()),
            Effect::Deny { rule, message } => {
                shape.refusal.clone().unwrap_or_else(|| Fault::denied(rule, message))
            }
            Effect::Hold(_) => {
                let why = "one of these statements needs approval: send it alone; none of them ran";
                Fault::approval("RG-ALONE", why)
            }
        };
        if let Err(fault) = self.reserve() {
            return Ok(Ruling::Refuse(fault));
        }
        self.now = self.worker.now();
        self.current.decided(self.now);
        let text = self.recorded_text(statement, &decision);
        let recorded = self.record_intent(statement.kind, &decision, text.as_deref());
        Ok(Ruling::Refuse(recorded.err().unwrap_or(refusal)))
    }

    /// Lets it run, once its intent is as durable as it must be.
    async fn admit_statement(&mut self, decision: &Decision) -> Result<Ruling, Stop> {
        match self.make_durable(decision.shape.verb).await? {
            Admission::Refused(fault) => Ok(Ruling::Refuse(fault)),
            Admission::Admitted => Ok(decision.run()),
        }
    }

    pub(super) fn text<'a>(&'a self, statement: &'a Statement) -> &'a [u8] {
        match &statement.text {
            Text::Lent(range) => self.client.peek().get(range.clone()).unwrap_or_default(),
            Text::Kept(text) => text,
        }
    }

    /// Of a session without a connection: text is read as the next one will read it.
    fn reads_by_todays_mode(&mut self) {
        let seen = self.worker.with_snapshot(|snapshot| {
            let catalog = snapshot.catalogs.get(self.target_index).and_then(Option::as_ref);
            catalog.map(|catalog| catalog.profile.sql_mode)
        });
        if let Some(mode) = seen {
            self.session.reads_by(mode);
        }
    }

    fn decide(&self, statement: &Statement) -> Option<Decision> {
        let facets = self.session.facets()?;
        let query = Query {
            text: self.text(statement),
            kind: statement.kind,
            facets: &facets,
            target: self.target_index,
            target_name: &self.target.runtime.name,
            source: self.cell.source(),
            session_id: self.id,
            now: self.now,
            said: self.session.said(self.client.peek()),
            login: kept(self.said.as_deref()),
        };
        Some(self.worker.decide(&query))
    }

    /// The shape, or the text with its literals where the configuration says so.
    fn recorded_text(&self, statement: &Statement, decision: &Decision) -> Option<String> {
        if !self.worker.shared.limits.record_literals {
            return None;
        }
        let text = decision.canonical.as_deref().unwrap_or_else(|| self.text(statement));
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Asks people and waits for their word, with an eye on the client.
    async fn hold(
        &mut self,
        statement: &Statement,
        decision: &Decision,
        hold: &Hold,
    ) -> Result<Ruling, Stop> {
        let worker = Rc::clone(&self.worker);
        let request = match self.new_request(statement, decision, hold) {
            Ok(request) => request,
            Err(fault) => return Ok(Ruling::Refuse(fault)),
        };
        let waiting = match worker.shared.desk.request(request) {
            Ok(waiting) => waiting,
            Err(full) => return Ok(Ruling::Refuse(full.into())),
        };
        let asked = self.now;
        self.activity(Activity::Held);
        // Dropping the future, as the client's death does, calls the request off.
        let answer = self.while_client_lives(waiting).await?;
        self.activity(Activity::Running);
        self.now = worker.now();
        self.current.held(asked, self.now);
        if let Some(fault) = answer.fault() {
            return Ok(Ruling::Refuse(fault));
        }
        if let Some(fault) = self.no_longer_admitted() {
            return Ok(Ruling::RefuseAndClose(fault));
        }
        // The rules may have changed while people thought: what they deny now is denied, what they mask is masked.
        let Some(today) = self.decide(statement) else {
            return Ok(Ruling::RefuseAndClose(Fault::internal()));
        };
        let today = self.without_masked_values(statement, today);
        self.current.trace = today.shape.trace;
        self.current.leaves = left_by(statement.kind, today.shape.leaves);
        match &today.shape.effect {
            Effect::Deny { rule, message } => {
                let refusal = today.shape.refusal.clone();
                Ok(Ruling::Refuse(refusal.unwrap_or_else(|| Fault::denied(rule, message))))
            }
            Effect::Allow | Effect::Hold(_) => self.admit_statement(&today).await,
        }
    }

    /// Whether a statement reads variables: their values are not in its text.
    fn has_variables(&self, text: &[u8], mode: SqlMode) -> bool {
        self.worker.with_snapshot(|snapshot| {
            let catalog = snapshot.catalogs.get(self.target_index).and_then(Option::as_ref);
            catalog.is_none_or(|catalog| sql::has_variables(text, &catalog.profile, mode))
        })
    }

    /// What is said of the run of the statement that was so decided: by itself, and by its login under these names.
    pub(super) fn said<'a>(&'a self, decision: &'a Decision, of_login: Names) -> Run<'a> {
        let said = self.session.said(self.client.peek());
        said.or(kept(decision.comment.as_deref())).or(kept(self.said.as_deref()).only(of_login))
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
        let parameters = self.session.bound_parameters(self.client.peek()).ok_or_else(|| {
            let why = "this statement needs approval, and its parameters must all come with it: \
                       prepare it again, and send no long data";
            Fault::approval("RG-PARAMETERS", why)
        })?;
        let attributes = self.session.attributes(self.client.peek());
        let run = self.said(decision, Names::ALL);
        if self.has_variables(text, facets.sql_mode) {
            let why = "this statement needs approval, and an approver can't see what its variables hold: \
                       write their values in";
            return Err(Fault::approval("RG-PARAMETERS", why));
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
        };
        Ok(NewRequest {
            identity: facets.principal.subject.clone(),
            groups: facets.principal.groups.clone(),
            target: self.target.runtime.name.clone(),
            schema: facets.schema.map(str::to_owned),
            session: self.id,
            statement: shown(statement.kind, text, &parameters, attributes, run),
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
        })
    }
}

/// What came of a statement at once.
enum Ruled {
    /// This.
    Now(Ruling),
    /// The schema must be looked at again.
    UnknownName,
    /// People or the disk have the word.
    Waits(Decision),
}

/// PREPARE runs nothing, and FETCH goes on with what was approved: EXECUTE is what waits.
fn is_held(kind: StatementKind) -> bool {
    !matches!(kind, StatementKind::Prepare | StatementKind::Fetch)
}

/// What the approver sees: the text, and the bytes of the parameters and attributes with what is not text escaped.
fn shown(
    kind: StatementKind,
    text: &[u8],
    parameters: &[u8],
    attributes: Attributes<'_>,
    run: Run<'_>,
) -> String {
    let mut shown = String::from_utf8_lossy(text).into_owned();
    if !parameters.is_empty() {
        shown.push_str(match kind {
            StatementKind::BulkExecute => {
                "\n-- runs for each of many rows; parameters as sent (types, indicators and values): "
            }
            _ => "\n-- parameters as sent (NULL bitmap, types, values): ",
        });
        shown.push_str(&parameters.escape_ascii().to_string());
    }
    attributes::shown(attributes, run, &mut shown);
    shown
}
