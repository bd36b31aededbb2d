//! Facts in Cedar's words: entities, actions and contexts as `policies/rowgate.cedarschema` declares them.
//! Nothing is decided here.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema,
};

use super::{ControlAction, Request};
use crate::identity::Principal;
use crate::schema::{LabelSet, Labels, fold};
use crate::sql::{ColumnRef, Facts, TableUse};

/// The schema's text.
const SCHEMA: &str = include_str!("../../policies/rowgate.cedarschema");

/// Databases that describe the server. Their names are case-insensitive there, so they are folded here.
const SYSTEM: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// What can be asked for. (`write` and `ddl` are groups of these, for policies only.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Select,
    Lock,
    Insert,
    Replace,
    Update,
    Delete,
    Load,
    Create,
    Alter,
    Drop,
    Truncate,
    Rename,
    Grant,
    Admin,
    Kill,
    Call,
    Session,
    Show,
    Diagnostics,
    Reveal,
    Use,
    Assign,
    Passthrough,
    Command,
    Finish,
    OnBehalfOf,
    RecordRows,
}

impl Action {
    /// Every action, in the order of the declaration.
    pub(super) const ALL: [Self; 27] = [
        Self::Select,
        Self::Lock,
        Self::Insert,
        Self::Replace,
        Self::Update,
        Self::Delete,
        Self::Load,
        Self::Create,
        Self::Alter,
        Self::Drop,
        Self::Truncate,
        Self::Rename,
        Self::Grant,
        Self::Admin,
        Self::Kill,
        Self::Call,
        Self::Session,
        Self::Show,
        Self::Diagnostics,
        Self::Reveal,
        Self::Use,
        Self::Assign,
        Self::Passthrough,
        Self::Command,
        Self::Finish,
        Self::OnBehalfOf,
        Self::RecordRows,
    ];

    /// The name in the schema.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Lock => "lock",
            Self::Insert => "insert",
            Self::Replace => "replace",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Load => "load",
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Drop => "drop",
            Self::Truncate => "truncate",
            Self::Rename => "rename",
            Self::Grant => "grant",
            Self::Admin => "admin",
            Self::Kill => "kill",
            Self::Call => "call",
            Self::Session => "session",
            Self::Show => "show",
            Self::Diagnostics => "diagnostics",
            Self::Reveal => "reveal",
            Self::Use => "use",
            Self::Assign => "assign",
            Self::Passthrough => "passthrough",
            Self::Command => "command",
            Self::Finish => "finish",
            Self::OnBehalfOf => "on-behalf-of",
            Self::RecordRows => "record-rows",
        }
    }
}

/// A value or an entity that Cedar would not take.
pub(super) type CedarFault = Box<dyn std::error::Error + Send + Sync>;

/// Type names and actions, parsed once.
pub(super) struct Vocabulary {
    pub(super) schema: Schema,
    actions: Entities,
    action_uids: Vec<EntityUid>,
    control_uids: Vec<EntityUid>,
    gateway: EntityUid,
    group: EntityTypeName,
    identity: EntityTypeName,
    target: EntityTypeName,
    database: EntityTypeName,
    table: EntityTypeName,
    column: EntityTypeName,
}

impl Vocabulary {
    /// Parses the schema.
    pub(super) fn new() -> Result<Self, CedarFault> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)?;
        let actions = schema.action_entities()?;
        let action: EntityTypeName = "Action".parse()?;
        let named = |name: &str| uid(&action, name);
        Ok(Self {
            action_uids: Action::ALL.into_iter().map(|of| named(of.as_str())).collect(),
            control_uids: ControlAction::ALL.into_iter().map(|of| named(of.as_str())).collect(),
            gateway: uid(&"Gateway".parse()?, "rowgate"),
            group: "Group".parse()?,
            identity: "Identity".parse()?,
            target: "Target".parse()?,
            database: "Database".parse()?,
            table: "Table".parse()?,
            column: "Column".parse()?,
            schema,
            actions,
        })
    }

    pub(super) fn action(&self, action: Action) -> Option<EntityUid> {
        self.action_uids.get(action as usize).cloned()
    }

    pub(super) fn control_action(&self, action: ControlAction) -> Option<EntityUid> {
        self.control_uids.get(action as usize).cloned()
    }

    pub(super) fn gateway(&self) -> EntityUid {
        self.gateway.clone()
    }

    pub(super) fn principal(&self, principal: &Principal) -> EntityUid {
        uid(&self.identity, &principal.subject)
    }

    pub(super) fn target(&self, target: &str) -> EntityUid {
        uid(&self.target, target)
    }

    pub(super) fn table(&self, table: &TableUse) -> EntityUid {
        uid(&self.table, &table_name(&table.schema, &table.name))
    }

    pub(super) fn column(&self, column: &ColumnRef) -> EntityUid {
        uid(&self.column, &column_name(column))
    }

    /// Everyone and everything that a request is about.
    pub(super) fn entities(&self, request: &Request<'_>) -> Result<Entities, CedarFault> {
        let facts = &request.analysis.facts;
        let mut world = World { vocabulary: self, seen: HashSet::new(), entities: Vec::new() };
        world.add_identity(request.principal)?;
        world.add_bare(self.target(request.target), None);
        for table in &facts.tables {
            world.add_table(request, table)?;
        }
        for column in labelled_columns(facts) {
            world.add_column(request, column)?;
        }
        Ok(self.actions.clone().add_entities(world.entities, None)?)
    }

    /// An identity and a target alone.
    pub(super) fn two(&self, principal: &Principal, target: &str) -> Result<Entities, CedarFault> {
        let mut world = World { vocabulary: self, seen: HashSet::new(), entities: Vec::new() };
        world.add_identity(principal)?;
        world.add_bare(self.target(target), None);
        Ok(self.actions.clone().add_entities(world.entities, None)?)
    }

    /// An identity and the gateway.
    pub(super) fn with_gateway(&self, principal: &Principal) -> Result<Entities, CedarFault> {
        let mut world = World { vocabulary: self, seen: HashSet::new(), entities: Vec::new() };
        world.add_identity(principal)?;
        world.add_bare(self.gateway(), None);
        Ok(self.actions.clone().add_entities(world.entities, None)?)
    }
}

/// Entities being gathered, each once.
struct World<'a> {
    vocabulary: &'a Vocabulary,
    seen: HashSet<EntityUid>,
    entities: Vec<Entity>,
}

impl World<'_> {
    fn add_identity(&mut self, principal: &Principal) -> Result<(), CedarFault> {
        let group = |name: &String| uid(&self.vocabulary.group, name);
        let groups: HashSet<EntityUid> = principal.groups.iter().map(group).collect();
        let attributes = HashMap::from([
            ("subject".to_owned(), string(&principal.subject)),
            ("kind".to_owned(), string(principal.kind.as_str())),
        ]);
        let tags = principal.attributes.iter().map(|(key, value)| (key.clone(), string(value)));
        let uid = self.vocabulary.principal(principal);
        let entity = Entity::new_with_tags(uid, attributes, groups, tags)?;
        self.entities.push(entity);
        Ok(())
    }

    fn add_bare(&mut self, uid: EntityUid, parent: Option<EntityUid>) {
        if self.seen.insert(uid.clone()) {
            self.entities.push(Entity::new_no_attrs(uid, parent.into_iter().collect()));
        }
    }

    /// The database, as a child of the target; its uid.
    fn add_database(&mut self, target: &str, schema: &str) -> EntityUid {
        let database = uid(&self.vocabulary.database, &spelt(&database_name(schema)));
        self.add_bare(database.clone(), Some(self.vocabulary.target(target)));
        database
    }

    fn add_table(&mut self, request: &Request<'_>, table: &TableUse) -> Result<(), CedarFault> {
        let uid = self.vocabulary.table(table);
        let database = self.add_database(request.target, &table.schema);
        if !self.seen.insert(uid.clone()) {
            return Ok(());
        }
        let schema = database_name(&table.schema);
        let system = SYSTEM.contains(&schema.as_str());
        let name = if system { fold(&table.name) } else { table.name.clone() };
        let attributes = HashMap::from([
            ("database".to_owned(), string(&schema)),
            ("name".to_owned(), string(&name)),
            ("labels".to_owned(), set(request.labels, table.table_labels)),
            ("all_labels".to_owned(), set(request.labels, table.labels)),
            ("sensitive".to_owned(), RestrictedExpression::new_bool(table.sensitive)),
            ("system".to_owned(), RestrictedExpression::new_bool(system)),
            ("estimated_rows".to_owned(), long(table.estimated_rows)),
        ]);
        self.entities.push(Entity::new(uid, attributes, HashSet::from([database]))?);
        Ok(())
    }

    fn add_column(&mut self, request: &Request<'_>, column: &ColumnRef) -> Result<(), CedarFault> {
        let uid = self.vocabulary.column(column);
        if !self.seen.insert(uid.clone()) {
            return Ok(());
        }
        let table = table_uid(self.vocabulary, column);
        let database = self.add_database(request.target, &column.schema);
        self.add_bare(table.clone(), Some(database));
        let attributes = HashMap::from([
            ("database".to_owned(), string(&database_name(&column.schema))),
            ("table".to_owned(), string(&column.table)),
            ("name".to_owned(), string(&column.name)),
            ("labels".to_owned(), set(request.labels, column.labels)),
        ]);
        self.entities.push(Entity::new(uid, attributes, HashSet::from([table]))?);
        Ok(())
    }
}

/// The context of every action on tables and targets.
pub(super) fn statement_context(request: &Request<'_>) -> Result<Context, CedarFault> {
    let facts = &request.analysis.facts;
    let largest = facts.tables.iter().map(|table| table.estimated_rows).max().unwrap_or(0);
    let tables = u64::try_from(facts.tables.len()).unwrap_or(u64::MAX);
    let truth = RestrictedExpression::new_bool;
    let mut pairs = vec![
        ("verb".to_owned(), string(facts.verb.as_str())),
        ("explained".to_owned(), truth(facts.explained)),
        ("has_where".to_owned(), truth(facts.has_where)),
        ("key_pinned".to_owned(), truth(facts.key_pinned)),
        ("table_count".to_owned(), long(tables)),
        ("estimated_rows".to_owned(), long(largest)),
        ("sensitive".to_owned(), truth(facts.is_sensitive())),
        ("calls_sensitive".to_owned(), truth(facts.calls_sensitive)),
    ];
    pairs.extend(facts.limit.map(|limit| ("limit".to_owned(), long(limit))));
    pairs.extend(circumstances(request)?);
    Ok(Context::from_pairs(pairs)?)
}

/// The context of the actions on columns; `more` is what the action has besides the circumstances.
pub(super) fn column_context(
    request: &Request<'_>,
    more: &[(&str, &str)],
) -> Result<Context, CedarFault> {
    let more = more.iter().map(|(key, value)| ((*key).to_owned(), string(value)));
    Ok(Context::from_pairs(more.chain(circumstances(request)?))?)
}

/// The columns of a statement that carry a label, wherever they stand.
pub(super) fn labelled_columns(facts: &Facts) -> impl Iterator<Item = &ColumnRef> {
    let outputs = facts.outputs.iter().flatten().flat_map(|output| output.lineage.columns());
    let uses = facts.uses.iter().map(|used| &used.column);
    let assigned = facts.assigned.iter().map(|assigned| &assigned.column);
    outputs.chain(uses).chain(assigned).filter(|column| !column.labels.is_empty())
}

/// `shop.customers.ssn`.
pub(super) fn column_name(column: &ColumnRef) -> String {
    format!("{}.{}", table_name(&column.schema, &column.table), spelt(&column.name))
}

/// `shop.customers`.
pub(super) fn table_name(schema: &str, table: &str) -> String {
    let schema = database_name(schema);
    let table = if SYSTEM.contains(&schema.as_str()) { fold(table) } else { table.to_owned() };
    format!("{}.{}", spelt(&schema), spelt(&table))
}

fn table_uid(vocabulary: &Vocabulary, column: &ColumnRef) -> EntityUid {
    uid(&vocabulary.table, &table_name(&column.schema, &column.table))
}

fn database_name(name: &str) -> String {
    let folded = fold(name);
    if SYSTEM.contains(&folded.as_str()) { folded } else { name.to_owned() }
}

/// Backticks around a name with a dot or a backtick in it, so that no two names are written alike.
fn spelt(name: &str) -> String {
    if name.contains(['.', '`']) {
        format!("`{}`", name.replace('`', "``"))
    } else {
        name.to_owned()
    }
}

fn circumstances(request: &Request<'_>) -> Result<[(String, RestrictedExpression); 3], CedarFault> {
    let said = request.run.pairs().map(|(name, value)| (name.to_owned(), string(value)));
    let run = ("run".to_owned(), RestrictedExpression::new_record(said)?);
    let [source, time] = source_and_time(request.source, request.now_us)?;
    Ok([source, time, run])
}

/// The context of the actions on a target that no statement stands for; `more` is what the action has besides.
pub(super) fn target_context(
    more: (&str, &str),
    source: &str,
    now_us: i64,
) -> Result<Context, CedarFault> {
    let more = [(more.0.to_owned(), string(more.1))];
    Ok(Context::from_pairs(more.into_iter().chain(source_and_time(source, now_us)?))?)
}

fn source_and_time(
    source: &str,
    now_us: i64,
) -> Result<[(String, RestrictedExpression); 2], CedarFault> {
    let unix = now_us.div_euclid(1_000_000);
    let number = RestrictedExpression::new_long;
    let time = RestrictedExpression::new_record([
        ("unix".to_owned(), number(unix)),
        ("hour".to_owned(), number(unix.div_euclid(3_600).rem_euclid(24))),
        ("minute".to_owned(), number(unix.div_euclid(60).rem_euclid(60))),
        // The epoch's first day was a Thursday.
        ("weekday".to_owned(), number((unix.div_euclid(86_400) + 3).rem_euclid(7) + 1)),
    ])?;
    Ok([("source".to_owned(), string(source)), ("time".to_owned(), time)])
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// Estimates past Cedar's integers are as large as these get.
fn long(number: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX))
}

fn set(labels: &Labels, members: LabelSet) -> RestrictedExpression {
    RestrictedExpression::new_set(members.iter().map(|id| string(labels.name(id))))
}
