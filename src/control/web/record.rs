//! Looking back: the sessions of the record, and each of them statement by statement, as its client saw it, with what was
//! masked and why. For auditors; that they looked is recorded itself.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use super::Web;
use super::page::{Asked, PageError, Tab, chips, empty, page, status, time};
use super::session::Visitor;
use crate::audit::replay::{Answer, Column, Moment, Played, Summary};
use crate::control::look_back::LookBackError;
use crate::record::{Masked, Opened};
use crate::visible::visible;

/// Sessions in the list.
const LISTED: usize = 200;

/// Statements on one page.
const ON_A_PAGE: usize = 50;

/// Rows of a result on the page: more than are read; `rowgate audit replay` has all that are recorded.
const MAX_ROWS: usize = 100;

/// The longest cell, in characters.
const MAX_CELL: usize = 300;

impl From<LookBackError> for PageError {
    fn from(error: LookBackError) -> Self {
        tracing::error!(%error, "the record can't be looked back at");
        let (title, mend) = ("The record can't be read", "`rowgate audit verify` says more.");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title, format!("{error}."), mend)
    }
}

pub(super) async fn list(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.audit, "auditor")?;
    web.deps().record(&visitor.caller(), "record.list", "")?;
    let sessions = web.deps().look_back.sessions(LISTED).await?;
    let content = html! {
        h1 { "Record" }
        p.lead { "Every session that was here, open ones too: what it asked, what it was answered, and what was masked." }
        @if sessions.is_empty() {
            (empty("Nobody was here yet.", "Sessions show up here as soon as a client logs in."))
        } @else {
            p.count { "The last " (sessions.len()) " sessions" }
            (table(&sessions))
        }
    };
    Ok(page(&visitor, Tab::Record, "Record", &content))
}

fn table(sessions: &[Summary]) -> Markup {
    html! {
        table.stack {
            caption.sr { "Sessions of the record" }
            thead { tr {
                th scope="col" { "Who" }
                th scope="col" { "Target" }
                th scope="col" { "Began" }
                th scope="col" { "Statements" }
                th scope="col" { "Saw" }
            } }
            tbody {
                @for one in sessions {
                    tr {
                        th scope="row" {
                            a href={ "/record/" (one.opened.session) } { (one.opened.identity) }
                            span.sub { "session " (one.opened.session) }
                        }
                        td data-label="Target" { (one.opened.target) span.sub { "from " (one.opened.source) } }
                        td data-label="Began" { (time(one.opened.at_us)) }
                        td data-label="Statements" {
                            (one.statements)
                            @if one.denied > 0 { " " (status("bad", &format!("{} refused", one.denied))) }
                            @if one.held > 0 { " " (status("warn", &format!("{} held", one.held))) }
                        }
                        td data-label="Saw" {
                            (one.rows) " rows"
                            @if one.masked_cells > 0 { span.sub { (one.masked_cells) " cells masked" } }
                        }
                    }
                }
            }
        }
    }
}

/// Which part of a session.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    after: usize,
}

pub(super) async fn show(
    State(web): State<Web>,
    Extension(visitor): Extension<Visitor>,
    Path(session): Path<u64>,
    which: Asked<Which>,
) -> Result<Response, PageError> {
    visitor.must(visitor.roles.audit, "auditor")?;
    web.deps().record(&visitor.caller(), "record.replay", &session.to_string())?;
    let after = which.map_or(0, |which| which.after);
    let part = web.deps().look_back.session(session, after, ON_A_PAGE).await?;
    if part.moments.is_empty() {
        return Err(PageError::not_found());
    }
    let opened = part.moments.iter().find_map(|moment| match moment {
        Moment::Opened(opened) => Some(opened),
        _ => None,
    });
    let content = html! {
        p.back { a href="/record" { "Record" } }
        @match opened {
            Some(opened) => (began(opened)),
            None => h1 { "Session " (session) },
        }
        ol.timeline {
            @for moment in &part.moments { (shown(moment)) }
        }
        (pages(session, after, part.statements))
    };
    Ok(page(&visitor, Tab::Record, "Replay", &content))
}

fn began(opened: &Opened) -> Markup {
    html! {
        h1 { (opened.identity) " on " (opened.target) }
        dl.facts.card {
            div { dt { "Began" } dd { (time(opened.at_us)) } }
            div { dt { "From" } dd { (opened.source) } }
            div { dt { "Groups" } dd { (chips(&opened.groups, "none")) } }
            div { dt { "Session" } dd { code { (opened.session) } } }
            @for (name, value) in &opened.attributes { div { dt { (name) } dd { (value) } } }
        }
    }
}

fn shown(moment: &Moment) -> Markup {
    html! {
        @match moment {
            Moment::Opened(opened) => li.moment { (time(opened.at_us)) " " strong { (opened.identity) } " logged in" },
            Moment::Closed { at_us, reason } => li.moment { (time(*at_us)) " the session ended: " (reason) },
            Moment::Statement(played) => (statement(played)),
        }
    }
}

fn statement(played: &Played) -> Markup {
    let kind = match played.intent.verdict.as_str() {
        "allow" => "good",
        "deny" => "bad",
        _ => "warn",
    };
    html! {
        li.moment id={ "s" (played.intent.statement) } {
            article.card aria-label={ "Statement " (played.intent.statement) } {
                p.row {
                    strong { "#" (played.intent.statement) } (status(kind, verdict(&played.intent.verdict)))
                    code { (played.intent.verb.to_uppercase()) } (time(played.intent.at_us)) span.muted { (took(played)) }
                }
                pre.sql tabindex="0" { code { (visible(&played.intent.text)) } }
                @for (nth, answer) in (1..).zip(&played.answers) {
                    (answered(answer, &played.intent.masked, &format!("Result {nth} of statement {}", played.intent.statement)))
                }
                @if let Some(text) = played.missing() { p.hint { (text) } }
                (why(played))
            }
        }
    }
}

fn verdict(word: &str) -> &str {
    match word {
        "allow" => "allowed",
        "mask" => "masked",
        "deny" => "refused",
        "hold" => "held",
        other => other,
    }
}

fn took(played: &Played) -> String {
    let Some(ended) = &played.ended else { return "no end is recorded".to_owned() };
    let ms = |us: u64| format!("{}.{} ms", us / 1_000, us % 1_000 / 100);
    let mut text = ms(ended.total_us);
    if ended.hold_us > 0 {
        text.push_str(&format!(", {} of it held", ms(ended.hold_us)));
    }
    text
}

fn answered(answer: &Answer, masked: &[Masked], label: &str) -> Markup {
    html! {
        @match answer {
            Answer::Ok { affected, warnings } => p {
                (affected) " rows changed" @if *warnings > 0 { ", " (warnings) " warnings" } "."
            },
            Answer::Error { code, state, message } => p.refused { strong { "Error " (code) } " (" (state) ") " (visible(message)) },
            Answer::File => p { "A file of the client’s was asked for." },
            Answer::Rows { columns, rows } => (result((columns, rows), masked, label)),
        }
    }
}

fn result(
    (columns, rows): (&[Column], &[Vec<Option<String>>]),
    masked: &[Masked],
    label: &str,
) -> Markup {
    let mask_of = |index: usize| masked.iter().find(|one| usize::from(one.index) == index);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table.result {
                thead { tr {
                    @for (index, column) in columns.iter().enumerate() {
                        th scope="col" .masked[mask_of(index).is_some()] {
                            (visible(&column.name))
                            @if mask_of(index).is_some() { span.sub { "masked" } }
                        }
                    }
                } }
                tbody {
                    @for row in rows.iter().take(MAX_ROWS) {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                td .masked[mask_of(index).is_some()] {
                                    @match cell { Some(text) => (cut(text)), None => span.muted { "NULL" } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if rows.len() > MAX_ROWS { p.hint { (rows.len() - MAX_ROWS) " more rows are recorded." } }
    }
}

fn cut(cell: &str) -> String {
    let begin: String = cell.chars().take(MAX_CELL).collect();
    let rest = if begin.len() < cell.len() { "…" } else { "" };
    visible(&begin) + rest
}

/// By which rules, on what, and each mask with its reason.
fn why(played: &Played) -> Markup {
    html! {
        details.why open[!played.intent.masked.is_empty()] {
            summary { "Why" }
            @if !played.intent.masked.is_empty() {
                ul.plain {
                    @for one in &played.intent.masked { (mask(one)) }
                }
            }
            dl.facts {
                div { dt { "Tables" } dd { (chips(&played.intent.tables, "none")) } }
                div { dt { "Rules" } dd { (chips(&played.intent.rules, "none")) } }
                div { dt { "Database" } dd { (played.intent.schema.as_deref().unwrap_or("none chosen")) } }
                div { dt { "Policy" } dd { code { (played.intent.policy_version.chars().take(12).collect::<String>()) } } }
                @for (name, value) in &played.intent.attributes { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

fn mask(one: &Masked) -> Markup {
    html! {
        li {
            strong { "Column " (u32::from(one.index) + 1) } " is made of " (chips(&one.columns, "labelled columns"))
            ", labelled " (chips(&one.labels, "nothing")) ": rule " code { (one.rule) } " masks it by " code { (one.mask) }
            @if !one.plugin.is_empty() {
                span.sub { "plugin " (one.plugin) ", BLAKE3 " code.digest { (one.digest) } }
            }
        }
    }
}

fn pages(session: u64, after: usize, statements: usize) -> Markup {
    let link = |after: usize, text: &str| html! { a.button href={ "/record/" (session) "?after=" (after) } { (text) } };
    html! {
        @if after > 0 || statements > after + ON_A_PAGE {
            nav.row aria-label="Parts of the session" {
                @if after > 0 { (link(after.saturating_sub(ON_A_PAGE), "Earlier")) }
                span.muted {
                    (after + 1) " to " (statements.min(after + ON_A_PAGE)) " of " (statements) " statements"
                }
                @if statements > after + ON_A_PAGE { (link(after + ON_A_PAGE, "Later")) }
            }
        }
    }
}
