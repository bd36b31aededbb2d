//! The facts about a statement that policy decides on: types only.

use crate::fault::Fault;
use crate::schema::LabelSet;

/// What a statement is, by its leading words (after WITH, EXPLAIN and SET STATEMENT … FOR are seen through).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Verb {
    /// SELECT, TABLE, VALUES, and WITH … of them.
    Select,
    /// INSERT.
    Insert,
    /// REPLACE.
    Replace,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// LOAD DATA / LOAD XML.
    Load,
    /// CALL.
    Call,
    /// DO.
    Do,
    /// CREATE of anything but users and roles.
    Create,
    /// ALTER of anything but users.
    Alter,
    /// DROP of anything but users and roles.
    Drop,
    /// TRUNCATE.
    Truncate,
    /// RENAME TABLE.
    Rename,
    /// GRANT, REVOKE, and CREATE/ALTER/DROP/RENAME of USER or ROLE, SET PASSWORD, SET ROLE.
    Grant,
    /// SET of variables.
    Set,
    /// USE.
    Use,
    /// SHOW, DESCRIBE.
    Show,
    /// EXPLAIN, ANALYZE of a statement (ANALYZE executes it).
    Explain,
    /// BEGIN, START TRANSACTION, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, SET TRANSACTION.
    Transaction,
    /// LOCK/UNLOCK TABLES.
    Lock,
    /// PREPARE, EXECUTE, DEALLOCATE, EXECUTE IMMEDIATE.
    Prepare,
    /// HANDLER.
    Handler,
    /// KILL.
    Kill,
    /// FLUSH, RESET, PURGE, OPTIMIZE, ANALYZE TABLE, CHECK, REPAIR, INSTALL, SHUTDOWN, XA, and the like.
    Admin,
    /// Nothing (only comments), or not recognised.
    #[default]
    Unknown,
}

impl Verb {
    /// Every verb, for metrics.
    pub const ALL: [Self; 25] = [
        Self::Select,
        Self::Insert,
        Self::Replace,
        Self::Update,
        Self::Delete,
        Self::Load,
        Self::Call,
        Self::Do,
        Self::Create,
        Self::Alter,
        Self::Drop,
        Self::Truncate,
        Self::Rename,
        Self::Grant,
        Self::Set,
        Self::Use,
        Self::Show,
        Self::Explain,
        Self::Transaction,
        Self::Lock,
        Self::Prepare,
        Self::Handler,
        Self::Kill,
        Self::Admin,
        Self::Unknown,
    ];

    /// The lower-case word: metric label, record field, Cedar context.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Replace => "replace",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Load => "load",
            Self::Call => "call",
            Self::Do => "do",
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Drop => "drop",
            Self::Truncate => "truncate",
            Self::Rename => "rename",
            Self::Grant => "grant",
            Self::Set => "set",
            Self::Use => "use",
            Self::Show => "show",
            Self::Explain => "explain",
            Self::Transaction => "transaction",
            Self::Lock => "lock",
            Self::Prepare => "prepare",
            Self::Handler => "handler",
            Self::Kill => "kill",
            Self::Admin => "admin",
            Self::Unknown => "unknown",
        }
    }

    /// Whether running it can change data or definitions (decides which record must be durable first).
    pub fn writes(self) -> bool {
        !matches!(
            self,
            Self::Select | Self::Show | Self::Explain | Self::Use | Self::Transaction | Self::Set
        )
    }
}

/// How a table is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Rows are read.
    Read,
    /// Rows are written.
    Write,
    /// Its definition is made, changed or dropped.
    Define,
}

/// A table that the statement touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// Its database, as the catalogue spells it (as written, where unknown).
    pub schema: String,
    /// Its name.
    pub name: String,
    /// How.
    pub access: Access,
    /// The table's own labels and its columns' together; empty where unknown.
    pub labels: LabelSet,
    /// The table's own labels (`high-value`), without its columns'.
    pub table_labels: LabelSet,
    /// Inside the sensitive closure.
    pub sensitive: bool,
    /// The catalogue's row estimate.
    pub estimated_rows: u64,
}

/// What a statement can see of its session's past on the connection, and what it leaves there for the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trace {
    /// Anything.
    #[default]
    Any,
    /// It sees what the statement before it left (`FOUND_ROWS()`), of the session's past nothing else, and may leave
    /// anything.
    Last,
    /// It sees the messages of the statement before it (`SHOW WARNINGS`), and leaves them.
    Messages,
    /// It sees nothing, and leaves only what tells of it as the last one.
    None,
}

/// What of a statement its session could look for later, so that another connection would not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaves {
    /// Its messages, and the number of its rows, which is what FOUND_ROWS() tells.
    Rows,
    /// What tells of it as the last one.
    Last,
    /// Anything.
    #[default]
    More,
}

/// A column of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRef {
    /// Its database.
    pub schema: String,
    /// Its table or view.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: LabelSet,
}

/// A column that a statement writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The column.
    pub column: ColumnRef,
    /// Its values are strings, which a mask replaces by others; of other types masked ones are shown as NULL.
    pub is_string: bool,
    /// What it is given.
    pub given: NewValue,
}

/// What a column is given, as far as it matters whether NULL replaces what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewValue {
    /// NULL, spelt out.
    Null,
    /// A parameter.
    Parameter,
    /// Anything else, or no row that is there is changed.
    Other,
}

/// Where a column is used other than in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// WHERE.
    Where,
    /// ON, USING, NATURAL.
    Join,
    /// GROUP BY, PARTITION BY.
    Group,
    /// HAVING.
    Having,
    /// ORDER BY.
    Order,
    /// DISTINCT, UNION and the other set operations that compare rows.
    Distinct,
    /// A scalar, IN or EXISTS subquery.
    Subquery,
    /// CASE, IF, CAST, an operator, an aggregate, or a function that is not on the list of those safe to mask whole.
    Expression,
    /// The value of an INSERT, UPDATE, LOAD, SET or CALL.
    Source,
    /// A LIMIT, a window frame, or anywhere else.
    Other,
}

/// A labelled column that is used where a mask on the output cannot help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnUse {
    /// Which.
    pub column: ColumnRef,
    /// Where.
    pub place: Place,
}

/// Where an output column's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// No column of any table (a literal, a parameter, a function of such).
    Free,
    /// Exactly the value of one or more columns as they stand (several through UNION): the column's own mask applies.
    Bare(Vec<ColumnRef>),
    /// Computed from these columns by functions safe to mask whole: total redaction applies.
    Computed(Vec<ColumnRef>),
}

impl Lineage {
    /// The columns it comes from.
    pub fn columns(&self) -> &[ColumnRef] {
        match self {
            Self::Free => &[],
            Self::Bare(columns) | Self::Computed(columns) => columns,
        }
    }

    /// The union of their labels.
    pub fn labels(&self) -> LabelSet {
        self.columns().iter().fold(LabelSet::EMPTY, |set, column| set.union(column.labels))
    }
}

/// One column of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The name that the server will give it, where it can be told (alias or column name).
    pub name: Option<String>,
    /// Where it comes from.
    pub lineage: Lineage,
}

/// What a statement does. Tables are complete; columns, outputs and uses are filled in for statements that
/// touch the sensitive closure (others do not pay for a parse: `outputs` is `None`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub verb: Verb,
    /// EXPLAIN or ANALYZE of the statement whose facts these are.
    pub explained: bool,
    /// Every table it names, once for each way of access.
    pub tables: Vec<TableUse>,
    /// The result's columns in order, for a statement inside the closure that returns rows.
    pub outputs: Option<Vec<Output>>,
    /// Labelled columns used where a mask cannot help.
    pub uses: Vec<ColumnUse>,
    /// Labelled columns that it assigns to.
    pub assigned: Vec<Assigned>,
    /// Has a WHERE (or a join condition that narrows, for multi-table forms: no); of INSERT and REPLACE: that, or rows
    /// that are spelt out.
    pub has_where: bool,
    /// INSERT … ON DUPLICATE KEY UPDATE: may change rows that are there.
    pub upserts: bool,
    /// The literal LIMIT.
    pub limit: Option<u64>,
    /// Its top-level AND pins a whole unique key of the written table to literals or parameters; of INSERT: it
    /// spells out one row.
    pub key_pinned: bool,
    /// Names a stored routine that the catalogue says reaches labelled data or can't be read.
    pub calls_sensitive: bool,
    /// Drops, if it exists, a table that the catalogue does not know.
    pub misses: bool,
    /// USE: the database that becomes current.
    pub use_database: Option<String>,
    /// SET of what holds for other sessions too.
    pub sets_globally: bool,
    /// Takes a lock that outlives it: LOCK TABLES, FLUSH TABLES WITH READ LOCK, GET_LOCK. None of them shows in the
    /// server's status flags. Too many are named rather than too few.
    pub takes_lock: bool,
    /// What it sees and leaves on its connection.
    pub trace: Trace,
    /// What of it its own session could look for later.
    pub leaves: Leaves,
}

impl Facts {
    /// Whether it touches the sensitive closure.
    pub fn is_sensitive(&self) -> bool {
        self.calls_sensitive || self.tables.iter().any(|table| table.sensitive)
    }

    /// It runs for each of many rows of parameters: what holds one run to a row doesn't hold all of them to it.
    pub fn many_times(&mut self) {
        self.key_pinned = false;
        self.limit = None;
    }
}

/// Why a statement is not understood well enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The lexer met something it has no reading for.
    #[error("the text can't be lexed: {0}")]
    Lex(&'static str),
    /// More than one statement.
    #[error("multi-statements are refused")]
    MultiStatement,
    /// Touches labelled data and can't be parsed.
    #[error("a statement on labelled data could not be parsed: {0}")]
    Parse(String),
    /// A name that could be of nothing, or of two.
    #[error("unknown or ambiguous name {0}")]
    Name(String),
    /// A table that the catalogue doesn't have, where one must stand.
    #[error("Table '{0}' doesn't exist")]
    Table(String),
    /// A column that nothing in the statement has.
    #[error("Unknown column '{0}'")]
    Column(String),
    /// A table without its database, while none is current.
    #[error("No database selected")]
    NoDatabase,
    /// Tokens and tree disagree on what is touched.
    #[error("the tokens name {0}, the parse tree does not")]
    CrossCheck(String),
    /// A construct refused on labelled data (HANDLER, PROCEDURE ANALYSE, SELECT … INTO, …).
    #[error("{0} is refused on labelled data")]
    Construct(&'static str),
    /// More than the limits on tokens, joins or nesting.
    #[error("too complex: more than {0}")]
    TooComplex(&'static str),
}

impl Unknown {
    /// Whether reading the catalogue again may help.
    pub fn is_a_name(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Table(_) | Self::Column(_))
    }

    /// What the client is told: by the server's own numbers where it would say the same, since programs look at those.
    pub fn fault(&self) -> Fault {
        let own = match self {
            Self::Table(_) => (1146, *b"42S02"),
            Self::Column(_) => (1054, *b"42S22"),
            Self::NoDatabase => (1046, *b"3D000"),
            _ => return Fault::analysis(&self.to_string()),
        };
        Fault::unknown_name(own, &self.to_string())
    }
}
