//! What a server says that an account was granted, read as far as it matters here: which privileges, on what.

use crate::control::Excess;

/// What clients may need through the gateway, and the gateway for its catalogue, of one database.
const ORDINARY: [&str; 22] = [
    "USAGE",
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EVENT",
    "TRIGGER",
    "DELETE HISTORY",
    "SHOW_ROUTINE",
    "SHOW CREATE ROUTINE",
];

/// Those whose reach is best said.
const SPECIAL: [(&str, &str); 14] = [
    (
        "SUPER",
        "changes the server's settings, ends others' sessions, writes where read_only forbids it",
    ),
    ("FILE", "reads and writes the server's files"),
    ("PROCESS", "sees the statements of all others"),
    ("SHUTDOWN", "stops the server"),
    ("RELOAD", "flushes logs, privileges and tables"),
    ("CREATE USER", "makes and renames accounts, and sets their passwords"),
    ("SYSTEM_USER", "changes accounts that others can't"),
    ("SET_USER_ID", "makes views and routines that run as others"),
    ("SET USER", "makes views and routines that run as others"),
    ("SET_ANY_DEFINER", "makes views and routines that run as others"),
    ("REPLICATION SLAVE", "reads every change of every table"),
    ("ROLE_ADMIN", "gives roles to whomever"),
    ("PROXY", "acts as another account"),
    ("SHOW DATABASES", "sees the names of all databases"),
];

/// One line of SHOW GRANTS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// In capitals, without the columns that one is limited to.
    privileges: Vec<String>,
    /// `*.*`, `` `shop`.* ``, `` `shop`.`t` ``; empty: a role.
    on: String,
    passes_on: bool,
}

impl Grant {
    pub(super) fn parse(line: &str) -> Self {
        // (MySQL's partial revokes take away; they are shown as they are.)
        let Some(rest) = line.strip_prefix("GRANT ") else {
            return Self { on: "-".to_owned(), ..Self::default() };
        };
        let Some((privileges, rest)) = split_at_word(rest, " ON ") else { return Self::default() };
        let (on, rest) = split_at_word(rest, " TO ").unwrap_or((rest, ""));
        let bare = |part: &str| {
            let name = part.split('(').next().unwrap_or_default();
            name.trim().to_ascii_uppercase()
        };
        Self {
            privileges: outside(privileges, ',').into_iter().map(bare).collect(),
            on: on.trim().to_owned(),
            passes_on: rest.trim_end().ends_with("WITH GRANT OPTION"),
        }
    }

    /// A role that the account has, and not what it may do by that.
    pub(super) fn is_role(&self) -> bool {
        self.on.is_empty()
    }

    /// Whether this grants a privilege on all of a database.
    pub(super) fn has(&self, privilege: &str, schema: &str) -> bool {
        let all = ["ALL PRIVILEGES", "ALL", privilege];
        let covers = self.on == "*.*" || self.on == format!("{}.*", quoted(schema));
        covers && self.privileges.iter().any(|own| all.contains(&own.as_str()))
    }

    /// What of it Rowgate has no use for.
    pub(super) fn excess(&self) -> Vec<Excess> {
        let mut found = Vec::new();
        let mut add = |privilege: &str, why: &str| {
            let (privilege, on, why) = (privilege.to_owned(), self.on.clone(), why.to_owned());
            found.push(Excess { privilege, on, why });
        };
        if self.is_role() {
            return found;
        }
        let is_global = self.on == "*.*";
        let mut wide = Vec::new();
        for privilege in self.privileges.iter().map(String::as_str) {
            let special = SPECIAL.iter().find(|(name, _)| *name == privilege);
            match special {
                Some((_, why)) => add(privilege, why),
                None if privilege.starts_with("ALL") && is_global => {
                    add(
                        privilege,
                        "everything on this server: SUPER, FILE, CREATE USER and all others",
                    );
                }
                None if privilege.starts_with("ALL") || privilege == "USAGE" => {}
                None if ORDINARY.contains(&privilege) => wide.push(privilege),
                None => add(privilege, "administers the server"),
            }
        }
        if is_global && !wide.is_empty() {
            add(
                &wide.join(", "),
                "on every database, mysql with its accounts among them; grant it on those that clients use",
            );
        }
        if !is_global && self.on.starts_with("`mysql`") {
            add(&wide.join(", "), "reaches the server's accounts and their password hashes");
        }
        if self.passes_on || self.privileges.iter().any(|own| own == "GRANT OPTION") {
            add("GRANT OPTION", "gives what it has to other accounts");
        }
        found
    }
}

/// A grant as it is shown: without what MariaDB adds by which the account could be proved.
pub(super) fn shown(line: &str) -> String {
    match split_at_word(line, " IDENTIFIED ") {
        Some((grant, rest)) if rest.trim_end().ends_with("WITH GRANT OPTION") => {
            format!("{grant} WITH GRANT OPTION")
        }
        Some((grant, _)) => grant.to_owned(),
        None => line.to_owned(),
    }
}

/// A name as SHOW GRANTS has it.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// At the first of these words that is in no quotes.
fn split_at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let at = bare_positions(text).find(|at| text[*at..].starts_with(word))?;
    Some((&text[..at], &text[at + word.len()..]))
}

/// The parts between separators that are in no quotes and no parentheses.
fn outside(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_usize);
    for at in bare_positions(text) {
        match text[at..].chars().next() {
            Some('(') => depth += 1,
            Some(')') => depth = depth.saturating_sub(1),
            Some(c) if c == separator && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// Where the characters are that are in no quotes.
fn bare_positions(text: &str) -> impl Iterator<Item = usize> {
    let mut quote = None;
    text.char_indices().filter_map(move |(at, c)| match quote {
        Some(open) if c == open => {
            quote = None;
            None
        }
        Some(_) => None,
        None if matches!(c, '`' | '\'' | '"') => {
            quote = Some(c);
            None
        }
        None => Some(at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(line: &str) -> Vec<(String, String)> {
        let excess = Grant::parse(line).excess();
        excess.into_iter().map(|one| (one.privilege, one.on)).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(privilege, on)| ((*privilege).to_owned(), (*on).to_owned())).collect()
    }

    #[test]
    fn what_is_too_much() {
        for (line, expected) in [
            ("GRANT USAGE ON *.* TO `crm`@`%`", &[][..]),
            ("GRANT ALL PRIVILEGES ON `shop`.* TO `crm`@`%`", &[]),
            ("GRANT SELECT (`a`, `b,c` ), INSERT ON `shop`.`t` TO `crm`@`%`", &[]),
            ("GRANT SELECT ON `a ON b`.* TO `crm`@`%`", &[]),
            ("GRANT ALL PRIVILEGES ON *.* TO `crm`@`%`", &[("ALL PRIVILEGES", "*.*")]),
            (
                "GRANT SELECT, FILE, SUPER ON *.* TO `crm`@`%`",
                &[("FILE", "*.*"), ("SUPER", "*.*"), ("SELECT", "*.*")],
            ),
            ("GRANT XA_RECOVER_ADMIN ON *.* TO `crm`@`%`", &[("XA_RECOVER_ADMIN", "*.*")]),
            (
                "GRANT SELECT ON `shop`.* TO `crm`@`%` WITH GRANT OPTION",
                &[("GRANT OPTION", "`shop`.*")],
            ),
            ("GRANT SELECT ON `mysql`.* TO `crm`@`%`", &[("SELECT", "`mysql`.*")]),
            (
                "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION",
                &[("PROXY", "''@'%'"), ("GRANT OPTION", "''@'%'")],
            ),
            ("GRANT `reader`@`%` TO `crm`@`%`", &[]),
            ("REVOKE SELECT ON `mysql`.* FROM `crm`@`%`", &[]),
        ] {
            assert_eq!(excess(line), pairs(expected), "{line}");
        }
        assert!(Grant::parse("GRANT `reader`@`%` TO `crm`@`%`").is_role());
        let grant = Grant::parse("GRANT SELECT, TRIGGER ON `shop`.* TO `crm`@`%`");
        assert!(
            grant.has("TRIGGER", "shop")
                && !grant.has("TRIGGER", "other")
                && !grant.has("EVENT", "shop")
        );
    }

    #[test]
    fn what_could_prove_the_account_is_not_shown() {
        for (line, expected) in [
            (
                "GRANT USAGE ON *.* TO `crm`@`%` IDENTIFIED BY PASSWORD '*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9'",
                "GRANT USAGE ON *.* TO `crm`@`%`",
            ),
            (
                "GRANT ALL PRIVILEGES ON *.* TO `crm`@`%` IDENTIFIED VIA ed25519 USING 'abc' WITH GRANT OPTION",
                "GRANT ALL PRIVILEGES ON *.* TO `crm`@`%` WITH GRANT OPTION",
            ),
            (
                "GRANT SELECT ON `a IDENTIFIED b`.* TO `crm`@`%`",
                "GRANT SELECT ON `a IDENTIFIED b`.* TO `crm`@`%`",
            ),
        ] {
            assert_eq!(shown(line), expected);
        }
    }
}
