//! `rowgate target check`: logs in once more, and tells what the account may do, and what of it is too much.

use std::time::Duration;

use super::grants::{self, Grant};
use super::second_wall::second_wall;
use crate::config::{Target, UpstreamTls};
use crate::control::{Excess, Reach, TargetReport, TlsReport};
use crate::fault::Fault;
use crate::net::side::{SideConnection, SideTarget};
use crate::schema::{Catalog, LabelSet, Table, TableKind};

/// How long the database may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Texts that can't be read, of views and of routines; `{user}` leaves the system's own schemas out.
const UNREAD: [(&str, &str, &str); 2] = [
    (
        "view",
        "SHOW VIEW",
        "SELECT table_schema, table_name FROM information_schema.views \
         WHERE COALESCE(view_definition, '') = '' AND table_schema {user} ORDER BY 1, 2",
    ),
    (
        "routine",
        "SHOW_ROUTINE (MySQL) or SHOW CREATE ROUTINE (MariaDB 11.3, before that SELECT on mysql.proc)",
        "SELECT routine_schema, routine_name FROM information_schema.routines \
         WHERE COALESCE(routine_definition, '') = '' AND routine_schema {user} ORDER BY 1, 2",
    ),
];

/// Everything that there is to say. Blocks for as long as the database takes.
pub(super) fn report(
    side: &SideTarget,
    target: &Target,
    catalog: Option<&Catalog>,
) -> TargetReport {
    let mut report = TargetReport { name: target.name.clone(), ..TargetReport::default() };
    match asked(side, target, catalog, &mut report) {
        Ok(()) => report.connected = true,
        Err(fault) => report.error = Some(fault.message),
    }
    report
}

fn asked(
    side: &SideTarget,
    target: &Target,
    catalog: Option<&Catalog>,
    report: &mut TargetReport,
) -> Result<(), Fault> {
    let mut connection = None;
    let mut ask = |sql: &str| {
        let rows = side.query(&mut connection, sql, PATIENCE)?;
        let text =
            |cell: Option<Vec<u8>>| String::from_utf8_lossy(&cell.unwrap_or_default()).into_owned();
        let row = |row: Vec<Option<Vec<u8>>>| row.into_iter().map(text).collect();
        Ok::<Vec<Vec<String>>, Fault>(rows.into_iter().map(row).collect())
    };
    let cell = |rows: &[Vec<String>], at: usize| {
        rows.first().and_then(|row| row.get(at)).cloned().unwrap_or_default()
    };
    let server = ask("SELECT @@version, CURRENT_USER()")?;
    (report.version, report.account) = (cell(&server, 0), cell(&server, 1));
    let is_mariadb = report.version.to_ascii_lowercase().contains("mariadb");
    report.flavour = String::from(if is_mariadb { "MariaDB" } else { "MySQL" });
    let lines = ask("SHOW GRANTS")?;
    report.grants = lines.iter().filter_map(|row| row.first()).map(|l| grants::shown(l)).collect();
    for (what, privilege, sql) in UNREAD {
        for row in ask(&sql.replace("{user}", crate::catalog::NOT_SYSTEM))? {
            report.lacks.push(format!(
                "{privilege}: the text of {what} {} can't be read, so it counts as reaching every label",
                row.join(".")
            ));
        }
    }
    report.tls = tls(connection.as_ref(), target);
    let granted: Vec<Grant> = report.grants.iter().map(|line| Grant::parse(line)).collect();
    report.too_much = granted.iter().flat_map(Grant::excess).collect::<Vec<Excess>>();
    if granted.iter().any(Grant::is_role) {
        report.notes.push("what its roles bring is not among the grants".to_owned());
    }
    match catalog {
        Some(catalog) => of_catalog(catalog, &granted, report),
        None => report.notes.push(
            "its schema was not read yet, so nothing can be said of labelled columns".to_owned(),
        ),
    }
    Ok(())
}

fn tls(connection: Option<&SideConnection>, target: &Target) -> TlsReport {
    let verified = match target.tls {
        UpstreamTls::VerifyIdentity => "chain and name verified",
        UpstreamTls::VerifyCa => "chain verified, its name may be any",
        UpstreamTls::Pin => "pinned: this certificate and no other",
        UpstreamTls::Off if target.address.starts_with("unix:") => "none: the database's socket",
        UpstreamTls::Off => "none: on this machine",
    };
    let found = connection.and_then(SideConnection::tls).unwrap_or_default();
    TlsReport {
        version: found.version,
        cipher: found.cipher,
        verified: verified.to_owned(),
        fingerprint: found.fingerprint,
    }
}

fn of_catalog(catalog: &Catalog, granted: &[Grant], report: &mut TargetReport) {
    let mut tables: Vec<&Table> = catalog.tables().collect();
    tables.sort_by_key(|table| (&table.schema, &table.name));
    for table in &tables {
        if table.kind == TableKind::View && table.sensitive {
            report.views.push(reach(catalog, table));
        } else if table.kind == TableKind::Base && !table.all_labels().is_empty() {
            report.labelled.push(reach(catalog, table));
        }
    }
    let routines = catalog.routines().filter(|routine| routine.sensitive);
    report.routines = routines.map(|of| format!("{}.{}", of.schema, of.name)).collect();
    report.routines.sort();
    let mut schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    schemas.dedup();
    for schema in schemas.iter().filter(|schema| !granted.iter().any(|g| g.has("TRIGGER", schema)))
    {
        report
            .lacks
            .push(format!("TRIGGER on {schema}: its triggers can't be seen, nor what they reach"));
    }
    if !report.labelled.is_empty() {
        report.second_wall = second_wall(&report.account, &tables);
        report.notes.push(
            "with the grants of the second wall alone, the database refuses labelled columns to the gateway itself, \
             which can mask none of them then: they are for a target whose clients need none"
                .to_owned(),
        );
    }
}

/// Its labelled columns; where it has none and yet reaches some, that.
fn reach(catalog: &Catalog, table: &Table) -> Reach {
    let names = |set: LabelSet| catalog.labels.names(set).join("+");
    let labelled = table.columns.iter().filter(|column| !column.labels.is_empty());
    let mut columns: Vec<String> =
        labelled.map(|column| format!("{}: {}", column.name, names(column.labels))).collect();
    if !table.labels.is_empty() {
        columns.push(format!("the table: {}", names(table.labels)));
    }
    if columns.is_empty() {
        columns.push("none of its own; it reads some".to_owned());
    }
    Reach { name: format!("{}.{}", table.schema, table.name), columns }
}
