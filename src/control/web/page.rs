//! What every page is set in: head, navigation, notices, errors, times. All text is escaped where it is put in.

use std::net::IpAddr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::session::Visitor;
use super::{Web, assets};
use crate::clock::now_us;
use crate::control::ErrorAnswer;
use crate::record::Event;
use crate::store::StoreError;

/// Where in the navigation a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Access,
    Approvals,
    Sessions,
    Record,
    Targets,
    Identities,
    Tokens,
    Other,
}

/// The navigation, and who sees which part of it.
const TABS: [(Tab, &str, &str, bool); 7] = [
    (Tab::Access, "/", "My access", false),
    (Tab::Approvals, "/approvals", "Approvals", false),
    (Tab::Sessions, "/sessions", "Sessions", false),
    (Tab::Record, "/record", "Record", true),
    (Tab::Targets, "/targets", "Targets", true),
    (Tab::Identities, "/identities", "Identities", true),
    (Tab::Tokens, "/tokens", "Tokens", true),
];

/// A page for someone who is signed in.
pub(super) fn page(visitor: &Visitor, tab: Tab, title: &str, content: &Markup) -> Response {
    html_of(StatusCode::OK, &document(title, None, Some((visitor, tab)), content))
}

/// A page for someone who is not.
pub(super) fn plain(status: StatusCode, title: &str, content: &Markup) -> Response {
    html_of(status, &document(title, None, None, content))
}

/// A page that leads on to a path of this site, from this site: strict cookies go along.
pub(super) fn onward(place: &str) -> Response {
    let content = html! {
        div.narrow.card {
            h1 { "One moment" }
            p { a href=(place) { "Go on" } }
        }
    };
    html_of(StatusCode::OK, &document("One moment", Some(place), None, &content))
}

fn html_of(status: StatusCode, markup: &Markup) -> Response {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, kind)], markup.0.clone()).into_response()
}

fn document(
    title: &str,
    onward: Option<&str>,
    visitor: Option<(&Visitor, Tab)>,
    content: &Markup,
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(place) = onward {
                    meta http-equiv="refresh" content={ "0; url=" (place) };
                }
                title { (title) " · Rowgate" }
                link rel="stylesheet" href=(assets::STYLE.url());
                link rel="icon" href=(assets::ICON.url()) type="image/svg+xml";
                script src=(assets::SCRIPT.url()) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (banner(visitor))
                main #main tabindex="-1" { (content) }
                footer { "Rowgate " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

fn banner(visitor: Option<(&Visitor, Tab)>) -> Markup {
    html! {
        header.top {
            div.bar {
                a.brand href="/" {
                    img src=(assets::ICON.url()) alt="" width="24" height="24";
                    "Rowgate"
                }
                @if let Some((visitor, _)) = visitor {
                    div.who {
                        span.name title="Signed in as" { (visitor.name()) }
                        form method="post" action="/sign-out" {
                            (csrf(visitor))
                            button.quiet type="submit" { "Sign out" }
                        }
                    }
                }
            }
            @if let Some((visitor, tab)) = visitor {
                nav aria-label="Pages" {
                    ul {
                        @for (own, place, name, for_auditors) in TABS {
                            @if !for_auditors || visitor.roles.audit {
                                li {
                                    a href=(place) aria-current=[(own == tab).then_some("page")] {
                                        (name)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The hidden field of each form.
pub(super) fn csrf(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.csrf); }
}

/// Where one signs in and comes back from.
pub(super) fn sign_in_at(place: &str) -> String {
    if place == "/" {
        return "/sign-in".to_owned();
    }
    let mut url = String::from("/sign-in?to=");
    for byte in place.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// A time, as one thinks of it and as one writes it down. (Script keeps the first up to date.)
pub(super) fn time(at_us: i64) -> Markup {
    let Ok(at) = jiff::Timestamp::from_microsecond(at_us) else { return html! { "—" } };
    let whole = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let short = at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    html! {
        time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()) title=(whole) {
            span.ago data-at=(at_us.div_euclid(1_000_000)) { (relative(at_us, now_us())) }
            " "
            span.at { (short) }
        }
    }
}

/// `3 minutes ago`, `in 2 hours`.
fn relative(at_us: i64, now_us: i64) -> String {
    let seconds = now_us.saturating_sub(at_us).div_euclid(1_000_000);
    let (count, unit) = match seconds.unsigned_abs() {
        0..=9 => return "just now".to_owned(),
        s @ 10..=59 => (s, "second"),
        s @ 60..=3_599 => (s / 60, "minute"),
        s @ 3_600..=86_399 => (s / 3_600, "hour"),
        s => (s / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if seconds < 0 {
        format!("in {count} {unit}{plural}")
    } else {
        format!("{count} {unit}{plural} ago")
    }
}

/// What was just done, by the word that the redirect carries: nobody else's words.
pub(super) fn notice(done: Option<&str>) -> Markup {
    let text = match done {
        Some("approved") => "Your approval counts.",
        Some("glass") => "The glass is broken: the statement may run.",
        Some("denied") => "The request is denied.",
        Some("cancelled") => "The request is called off.",
        Some("killed") => "The session was ended.",
        Some("token-revoked") => "The token is revoked; its sessions end within a second.",
        Some("revoked") => "The identity is revoked; its sessions end within a second.",
        Some("password-ended") => "The password is good no more; its sessions end within a second.",
        Some("restored") => "The identity may log in again.",
        _ => return html! {},
    };
    html! { p.notice role="status" { (text) } }
}

/// A query; what can't be read is as none.
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;

/// The query of a page that shows a [`notice`].
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Done {
    pub(super) done: Option<String>,
}

/// When something that lets people in was used last, and from where.
pub(super) fn used(at_us: Option<i64>, from: Option<&str>) -> Markup {
    html! {
        @match at_us {
            None => span.muted { "never" },
            Some(at) => {
                (time(at))
                @if let Some(from) = from { span.sub { "from " (from) } }
            }
        }
    }
}

/// Words, each apart; what stands where there are none.
pub(super) fn chips(words: &[impl maud::Render], none: &str) -> Markup {
    html! {
        @if words.is_empty() { span.muted { (none) } }
        @for word in words { span.chip { (word) } " " }
    }
}

/// A state: its word says it, and the colour repeats it.
pub(super) fn status(kind: &str, word: &str) -> Markup {
    html! { span.status.(kind) { (word) } }
}

/// A text to be copied; the button is for script, which shows it.
pub(super) fn copyable(text: &str, label: &str) -> Markup {
    html! {
        div.copy {
            pre tabindex="0" { code {
                @if text.contains(' ') {
                    // A line breaks between words, and not within `--host`.
                    @for part in text.split_inclusive([' ', '\n']) {
                        @let word = part.trim_end_matches([' ', '\n']);
                        span { (word) } (&part[word.len()..])
                    }
                } @else { (text) }
            } }
            button.quiet type="button" data-copy hidden aria-label=(label) { "Copy" }
        }
    }
}

/// Nothing to show yet, and what would change that.
pub(super) fn empty(title: &str, text: &str) -> Markup {
    html! { div.empty { p.strong { (title) } p { (text) } } }
}

/// A refusal in words, with a mend. It becomes a page once it is known who is told.
#[derive(Clone, Debug)]
pub(super) struct PageError {
    status: StatusCode,
    title: String,
    text: String,
    mend: String,
}

impl PageError {
    pub(super) fn new(status: StatusCode, title: &str, text: String, mend: &str) -> Self {
        Self { status, title: title.to_owned(), text, mend: mend.to_owned() }
    }

    pub(super) fn failed() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not now",
            "The gateway could not do this. Nothing was changed.".to_owned(),
            "Try again in a moment; its log says more.",
        )
    }

    pub(super) fn slow() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too slow",
            "This took too long, and was given up.".to_owned(),
            "Try again in a moment.",
        )
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Not here",
            "There is no such page, or it is gone.".to_owned(),
            "Start from the first page.",
        )
    }
}

impl From<ErrorAnswer> for PageError {
    fn from(error: ErrorAnswer) -> Self {
        let (title, mend) = match error.status() {
            StatusCode::BAD_REQUEST => ("Not accepted", "Go back, mend it, and send it again."),
            StatusCode::FORBIDDEN => ("Not yours to decide", "Ask someone who may."),
            StatusCode::NOT_FOUND => ("Not here", "Go back; the list there is up to date."),
            StatusCode::CONFLICT => ("Too late", "Go back; the list there is up to date."),
            _ => ("Not now", "Try again in a moment; the gateway's log says more."),
        };
        let mut text = error.message().to_owned();
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self::new(error.status(), title, text + ".", mend)
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed under the pages");
        Self::failed()
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes the page of an error, for whoever is told. Other answers stay as they are.
pub(super) fn finish(mut response: Response, visitor: Option<&Visitor>) -> Response {
    let Some(error) = response.extensions_mut().remove::<PageError>() else { return response };
    let content = html! {
        div.narrow.card.error {
            h1 { (error.title) }
            p { (error.text) }
            p { (error.mend) }
            p { a.button href="/" { "First page" } }
        }
    };
    let visitor = visitor.map(|visitor| (visitor, Tab::Other));
    let mut page = html_of(error.status, &document(&error.title, None, visitor, &content));
    // (Cookies that were to be taken away.)
    for cookie in response.headers().get_all(header::SET_COOKIE) {
        page.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    page
}

/// Notes a sign-in that was refused: in the record, where it can be.
pub(super) fn refused(web: &Web, user: &str, from: IpAddr, reason: &'static str) {
    let source = from.to_string();
    let event =
        Event::LoginRefused { at_us: now_us(), user, target: "web", source: &source, reason };
    if web.deps().events.record(&event).is_err() {
        tracing::warn!(reason, "a refused sign-in is not recorded: the record can't be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times() {
        let at = |seconds: i64| relative(-seconds * 1_000_000, 0);
        assert_eq!(at(3), "just now");
        assert_eq!(at(60), "1 minute ago");
        assert_eq!(at(7_300), "2 hours ago");
        assert_eq!(at(-86_400 * 3), "in 3 days");
    }

    #[test]
    fn text_is_escaped_wherever_it_stands() {
        let error = PageError::new(StatusCode::OK, "<b>", "<script>x</script>".into(), "\"'&");
        let markup = document("<title>", Some("/\"><script>"), None, &html! { (error.text) });
        assert!(!markup.0.contains("<script>x") && !markup.0.contains("\"><script>"));
        assert!(markup.0.contains("&lt;title&gt; · Rowgate"));
    }

    #[test]
    fn the_way_back() {
        assert_eq!(sign_in_at("/"), "/sign-in");
        assert_eq!(sign_in_at("/device?code=A&x"), "/sign-in?to=/device%3Fcode%3DA%26x");
    }
}
