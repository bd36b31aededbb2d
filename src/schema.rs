//! What is known of a target: its server, its tables and views, and the labels on their columns.
//! Types and look-ups only; `catalog` fills them, `sql` resolves names in them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Oracle MySQL.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// The parts of `sql_mode` that change how text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SqlMode(pub u8);

impl SqlMode {
    /// `"x"` is an identifier.
    pub const ANSI_QUOTES: u8 = 1;
    /// `\` in a string is an ordinary character.
    pub const NO_BACKSLASH_ESCAPES: u8 = 2;
    /// `||` concatenates.
    pub const PIPES_AS_CONCAT: u8 = 4;
    /// A space may stand between a function's name and its parenthesis.
    pub const IGNORE_SPACE: u8 = 8;

    /// The bits of a value of `sql_mode`.
    pub fn of(text: &str) -> Self {
        let bit = |word: &str| match word {
            "ANSI_QUOTES" => Self::ANSI_QUOTES,
            "NO_BACKSLASH_ESCAPES" => Self::NO_BACKSLASH_ESCAPES,
            "PIPES_AS_CONCAT" => Self::PIPES_AS_CONCAT,
            "IGNORE_SPACE" => Self::IGNORE_SPACE,
            // The servers expand combinations themselves; a combination's name alone is read as all it implies.
            "ANSI" | "ORACLE" | "DB2" | "MSSQL" | "POSTGRESQL" | "MAXDB" => {
                Self::ANSI_QUOTES | Self::PIPES_AS_CONCAT | Self::IGNORE_SPACE
            }
            _ => 0,
        };
        Self(text.split(',').fold(0, |bits, word| bits | bit(&word.trim().to_ascii_uppercase())))
    }

    /// Whether all of `bits` are set.
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether what is said of a text under the one holds under the other. A space in front of a parenthesis makes no
    /// difference to it: a name there counts as a function of the server's and as a stored one, whatever the server takes
    /// it for.
    pub fn reads_as(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::IGNORE_SPACE == 0
    }
}

/// The server behind a target, as it described itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerProfile {
    /// MySQL or MariaDB.
    pub flavour: Flavour,
    /// `10.11.19` is 101119 for MariaDB; `9.7.4` is 90704 for MySQL (the number of executable comments).
    pub version: u32,
    /// The version string of the handshake, passed on to clients.
    pub version_string: String,
    /// 0: table names are compared as they are; 1 and 2: folded.
    pub lower_case_table_names: u8,
    /// The gateway's baseline for this target.
    pub sql_mode: SqlMode,
    /// What its greeting had of the flags that clients are offered only where the target has them; `None`: its greeting
    /// was not seen, so they go by its version.
    pub capabilities: Option<u64>,
}

#[cfg(test)]
impl ServerProfile {
    /// The servers that the tests run on, as they are set up by themselves.
    pub(crate) fn stock(flavour: Flavour) -> Self {
        let (version, version_string) = match flavour {
            Flavour::MariaDb => (101_119, "10.11.19-MariaDB"),
            Flavour::MySql => (90_704, "9.7.4"),
        };
        let version_string = version_string.to_owned();
        Self {
            flavour,
            version,
            version_string,
            lower_case_table_names: 0,
            sql_mode: SqlMode(0),
            capabilities: None,
        }
    }
}

/// A label such as `pci`, as an index into [`Labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId(pub u8);

/// A set of at most 64 labels: a bit each, so that a union costs an instruction. Configuration refuses the 65th.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSet(pub u64);

impl LabelSet {
    /// No label.
    pub const EMPTY: Self = Self(0);

    /// Adds one.
    pub fn insert(&mut self, id: LabelId) {
        self.0 |= 1 << (id.0 & 63);
    }

    /// Both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `id` is in it.
    pub fn contains(self, id: LabelId) -> bool {
        self.0 & (1 << (id.0 & 63)) != 0
    }

    /// Its members in order.
    pub fn iter(self) -> impl Iterator<Item = LabelId> {
        (0..64).map(LabelId).filter(move |id| self.contains(*id))
    }
}

/// The names of labels; the index is the [`LabelId`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
}

impl Labels {
    /// The most labels there can be.
    pub const MAX: usize = 64;

    /// The id of `name`, added if new; `None` past [`Self::MAX`].
    pub fn intern(&mut self, name: &str) -> Option<LabelId> {
        if let Some(id) = self.find(name) {
            return Some(id);
        }
        if self.names.len() >= Self::MAX {
            return None;
        }
        self.names.push(name.to_owned());
        u8::try_from(self.names.len() - 1).ok().map(LabelId)
    }

    /// The id of `name`.
    pub fn find(&self, name: &str) -> Option<LabelId> {
        let at = self.names.iter().position(|known| known == name)?;
        u8::try_from(at).ok().map(LabelId)
    }

    /// The name of `id`.
    pub fn name(&self, id: LabelId) -> &str {
        self.names.get(usize::from(id.0)).map_or("?", String::as_str)
    }

    /// The names of a set, in order.
    pub fn names(&self, set: LabelSet) -> Vec<&str> {
        set.iter().map(|id| self.name(id)).collect()
    }
}

/// Base table or view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A base table (or a temporary or system table).
    Base,
    /// A view.
    View,
}

/// A column. Names are kept as the server spells them; look-ups fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `information_schema.columns.data_type`, lower case.
    pub data_type: String,
    /// Labels, declared or inherited through views and generated columns.
    pub labels: LabelSet,
    /// Its values are not those that its labels' masks are for: a view or a generated column computes them, or they
    /// are in wide characters. They are shown to nobody who would see them masked.
    pub computed: bool,
    /// Not among the columns of `*`.
    pub invisible: bool,
}

/// A table or view with its columns in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The database it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Base table or view.
    pub kind: TableKind,
    /// In ordinal order.
    pub columns: Vec<Column>,
    /// Labels of the table as such (`high-value`).
    pub labels: LabelSet,
    /// Unique keys, primary first: indices into `columns`.
    pub unique_keys: Vec<Vec<u16>>,
    /// `information_schema.tables.table_rows`.
    pub estimated_rows: u64,
    /// Inside the sensitive closure: a labelled column or table, a view or trigger that reaches one, or a
    /// view whose text could not be read.
    pub sensitive: bool,
    /// A view whose text, or that of a view below it, calls a routine of the closure: whoever reads it calls that.
    pub calls_sensitive: bool,
    /// Has triggers (their errors can carry data).
    pub has_triggers: bool,
    /// Has generated columns: reading it computes.
    pub generates: bool,
}

impl Table {
    /// The index of the column called `name`, as the server compares column names.
    pub fn column(&self, name: &str) -> Option<usize> {
        let wanted = fold(name);
        self.columns.iter().position(|c| fold(&c.name) == wanted)
    }

    /// Table and column labels together.
    pub fn all_labels(&self) -> LabelSet {
        self.columns.iter().fold(self.labels, |set, column| set.union(column.labels))
    }
}

/// A stored function or procedure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routine {
    /// Its database.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Reaches a labelled table, or its text could not be read.
    pub sensitive: bool,
}

/// Everything known of a target at one moment. Immutable; a refresh makes another with a new epoch.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Grows with every refresh that changed something; part of every cache key.
    pub epoch: u64,
    /// The server.
    pub profile: Arc<ServerProfile>,
    /// Names of labels.
    pub labels: Labels,
    /// Of the texts of all views, triggers and routines, and of what columns are generated from.
    pub texts: [u8; 32],
    schemas: HashSet<String>,
    tables: HashMap<(String, String), Table>,
    routines: HashMap<(String, String), Routine>,
}

impl Catalog {
    /// A catalogue of these tables and routines.
    pub fn new(
        epoch: u64,
        profile: ServerProfile,
        labels: Labels,
        tables: Vec<Table>,
        routines: Vec<Routine>,
    ) -> Self {
        let mut catalog = Self {
            epoch,
            profile: Arc::new(profile),
            labels,
            texts: [0; 32],
            schemas: HashSet::new(),
            tables: HashMap::new(),
            routines: HashMap::new(),
        };
        for table in tables {
            let key = catalog.table_key(&table.schema, &table.name);
            if !catalog.schemas.contains(&table.schema) {
                catalog.schemas.insert(table.schema.clone());
            }
            catalog.tables.insert(key, table);
        }
        for routine in routines {
            let key = (catalog.fold_table(&routine.schema), fold(&routine.name));
            catalog.routines.insert(key, routine);
        }
        catalog
    }

    /// Whether there is a database of exactly this name, with a table in it: one of another spelling, or an empty one,
    /// may be there too.
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains(name)
    }

    /// The table or view, as this server compares table names.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Table> {
        self.tables.get(&self.table_key(schema, name))
    }

    /// The stored routine.
    pub fn routine(&self, schema: &str, name: &str) -> Option<&Routine> {
        self.routines.get(&(self.fold_table(schema), fold(name)))
    }

    /// All tables, in no order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// All routines, in no order.
    pub fn routines(&self) -> impl Iterator<Item = &Routine> {
        self.routines.values()
    }

    fn table_key(&self, schema: &str, name: &str) -> (String, String) {
        (self.fold_table(schema), self.fold_table(name))
    }

    fn fold_table(&self, name: &str) -> String {
        if self.profile.lower_case_table_names == 0 { name.to_owned() } else { fold(name) }
    }
}

/// Whether two names are the same to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// To every server.
    Yes,
    /// To no server.
    No,
    /// To some: a name that could be read either way tells nothing.
    Perhaps,
}

/// How two names of columns compare. The servers differ on letters outside ASCII (`\u{131}` is no `i` to MariaDB), so
/// that where names are looked up from the inside out, neither "same" nor "other" may be guessed of them.
pub fn same(a: &str, b: &str) -> Same {
    match a.eq_ignore_ascii_case(b) {
        true => Same::Yes,
        false if fold(a) == fold(b) => Same::Perhaps,
        false => Same::No,
    }
}

/// A name as the servers compare column names (and table names, where those fold).
///
/// MySQL 9.7 reads `ban\u{212A}` as `bank` and `\u{130}d` as `id`, so folding is by simple
/// case mapping of each character plus those two. A name folds to the same key as every name that a server
/// might take for it; where the servers differ, this is the wider of the two: a clash is refused, not missed.
pub fn fold(name: &str) -> String {
    name.chars()
        .flat_map(|c| {
            let c = match c {
                '\u{212A}' => 'k',
                '\u{130}' | '\u{131}' => 'i',
                '\u{17F}' => 's',
                other => other,
            };
            c.to_lowercase()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kelvin_and_dotted_i_fold() {
        assert_eq!(fold("ban\u{212A}"), "bank");
        assert_eq!(fold("\u{130}d"), "id");
        assert_eq!(fold("SSN"), fold("\u{17F}sn"));
    }
}
