//! The grants by which an account reads nothing labelled: what the database would still refuse, were the gateway passed by.

use super::grants::quoted;
use crate::schema::{Table, TableKind};

/// Tables of one database whose grants are written out.
const MAX_TABLES: usize = 5_000;

/// Statements for an account as CURRENT_USER() names it, ready to be run as they stand. Tables are in order.
pub(super) fn second_wall(account: &str, tables: &[&Table]) -> Vec<String> {
    let account = account_of(account);
    let mut all = vec![
        "-- what it has is wider, and goes first".to_owned(),
        format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account};"),
    ];
    for table in tables.iter().take(MAX_TABLES) {
        let name = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
        let plain: Vec<String> = table
            .columns
            .iter()
            .filter(|column| column.labels.is_empty())
            .map(|column| quoted(&column.name))
            .collect();
        let is_view = table.kind == TableKind::View;
        // A view reads by the rights of whoever made it.
        let left_out = if is_view && table.sensitive {
            Some("it reaches labelled columns")
        } else if !table.labels.is_empty() {
            Some("it is labelled as a whole")
        } else if plain.is_empty() {
            Some("all of its columns are labelled")
        } else {
            None
        };
        all.push(match left_out {
            Some(why) => format!("-- not {}: {why}", name.replace(['\n', '\r'], " ")),
            None if plain.len() == table.columns.len() => {
                format!("GRANT SELECT ON {name} TO {account};")
            }
            None => format!("GRANT SELECT ({}) ON {name} TO {account};", plain.join(", ")),
        });
    }
    if tables.len() > MAX_TABLES {
        all.push(format!("-- and {} tables more", tables.len() - MAX_TABLES));
    }
    all
}

/// `crm@127.0.0.1` → `'crm'@'127.0.0.1'`.
fn account_of(current: &str) -> String {
    let text = |part: &str| format!("'{}'", part.replace('\\', "\\\\").replace('\'', "''"));
    match current.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", text(user), text(host)),
        None => text(current),
    }
}
