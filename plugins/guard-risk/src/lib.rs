//! Holds risky statements by their facts: a destructive verb, or a write without a key over many rows.

use rowgate_plugin::{Access, Decision, Plugin, Statement};

/// Its settings.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A write that pins no key is held when a table it touches has more rows than this.
    pub max_rows: u64,
    /// Whom to ask; empty for the configured groups.
    pub groups: Vec<String>,
    /// Identities in one of these groups are not asked about.
    pub exempt: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_rows: 1_000, groups: Vec::new(), exempt: vec!["dba".to_owned()] }
    }
}

/// The plugin.
pub struct GuardRisk {
    config: Config,
}

impl Plugin for GuardRisk {
    const NAME: &'static str = "guard-risk";
    const DECIDES: bool = true;
    type Config = Config;
    type Mask = ();

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { config })
    }

    fn decide(&self, statement: &Statement) -> Decision {
        if statement.groups.iter().any(|group| self.config.exempt.contains(group)) {
            return Decision::Allow;
        }
        match self.risk(statement) {
            Some(reason) => {
                Decision::RequireApproval { reason, groups: self.config.groups.clone() }
            }
            None => Decision::Allow,
        }
    }
}

impl GuardRisk {
    fn risk(&self, statement: &Statement) -> Option<String> {
        if matches!(statement.verb.as_str(), "drop" | "truncate") {
            return Some(format!("{} destroys data", statement.verb.to_uppercase()));
        }
        let bulk = matches!(statement.verb.as_str(), "update" | "delete");
        if !bulk || statement.key_pinned || (statement.has_where && statement.limit == Some(1)) {
            return None;
        }
        let written = |table: &&rowgate_plugin::Table| table.access == Access::Write;
        let rows = statement.tables.iter().filter(written).map(|t| t.estimated_rows).max();
        let rows = rows.filter(|rows| *rows > self.config.max_rows && !statement.sensitive)?;
        (!statement.has_where)
            .then(|| format!("a write without WHERE to a table of about {rows} rows"))
    }
}

rowgate_plugin::export!(GuardRisk);

#[cfg(test)]
mod tests {
    use super::*;
    use rowgate_plugin::Table;

    fn statement(verb: &str, rows: u64) -> Statement {
        let table = Table {
            schema: "shop".to_owned(),
            name: "orders".to_owned(),
            access: Access::Write,
            labels: Vec::new(),
            estimated_rows: rows,
        };
        Statement { verb: verb.to_owned(), tables: vec![table], ..Statement::default() }
    }

    fn held(statement: &Statement) -> bool {
        let guard = GuardRisk::new(Config::default()).unwrap();
        matches!(guard.decide(statement), Decision::RequireApproval { .. })
    }

    #[test]
    fn risks() {
        assert!(held(&statement("drop", 0)));
        assert!(held(&statement("truncate", 0)));
        assert!(held(&statement("delete", 5_000)));
        assert!(!held(&statement("delete", 10)));
        assert!(!held(&statement("select", 5_000)));
        let mut keyed = statement("update", 5_000);
        keyed.key_pinned = true;
        assert!(!held(&keyed));
        let mut dba = statement("drop", 0);
        dba.groups = vec!["dba".to_owned()];
        assert!(!held(&dba));
    }
}
