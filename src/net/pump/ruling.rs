//! One statement's ruling: decided, recorded, perhaps held for people, before anything of it goes upstream.

use std::sync::Arc;

use super::record::Admission;
use super::{Pump, Stop};
use crate::codec::Command;
use crate::fault::Fault;
use crate::net::control::End;
use crate::net::decide::{Decision, Query};
use crate::net::io;
use crate::policy::{Asker, Effect, Policies};
use crate::run::{Names, Run, kept};
use crate::session::{Ruling, Statement, StatementKind, Text};
use crate::sql::{Trace, Verb};

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
        let decision = self.adjusted(statement, decision);
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

    /// The decision as this session has it: what only it knows may refuse what its rules allow.
    pub(super) fn adjusted(&mut self, statement: &Statement, decision: Decision) -> Decision {
        let decision = self.without_withheld_texts(decision);
        let decision = self.without_masked_values(statement, decision);
        match statement.kind {
            StatementKind::Command(command) => self.permitted(command, &decision),
            _ => decision,
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
                Effect::Hold(_) if is_held(statement.kind) => self.hold(statement, decision).await,
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
                Fault::approval("RG-ALONE", &[], why)
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
    pub(super) async fn admit_statement(&mut self, decision: &Decision) -> Result<Ruling, Stop> {
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

    pub(super) fn decide(&self, statement: &Statement) -> Option<Decision> {
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

    /// What is said of the run of the statement that was so decided: by itself, and by its login under these names.
    pub(super) fn said<'a>(&'a self, decision: &'a Decision, of_login: Names) -> Run<'a> {
        let said = self.session.said(self.client.peek());
        said.or(kept(decision.comment.as_deref())).or(kept(self.said.as_deref()).only(of_login))
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
