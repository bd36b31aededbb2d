//! `rowgate login` and `logout`: a session password by the device flow (RFC 8628). The person agrees in a browser, wherever that is.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, Url};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::admin::block_on;
use super::kept::Kept;
use super::login_args::LoginArgs;
use super::output::{say, time_or, visible};
use super::{CliError, Context};
use crate::control::{CodeAnswer, PasswordAnswer};
use crate::https::{self, HttpsError, Proxies};

/// One call takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer: those of thousands of targets are below that.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// What RFC 8628 adds to the pause where that was too short, and the longest pause that is believed.
const SLOW_DOWN: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_mins(1);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Signs in.
pub(super) fn login(context: &Context, args: &LoginArgs) -> Result<(), CliError> {
    let path = Kept::path()?;
    let pages = Pages::at(&args.gateway, args.ca.as_deref())?;
    let session = block_on(pages.sign_in(args))?;
    let ca = args.ca.as_deref().map(|ca| fs::canonicalize(ca).unwrap_or_else(|_| ca.to_owned()));
    let kept = Kept { gateway: pages.url.to_string(), ca, session };
    kept.write(&path)?;
    if let Some(form) = args.print {
        let printed = kept.printed(form, args.target.first().map(String::as_str))?;
        return say(printed.trim_end());
    }
    let info = &kept.session.info;
    let until = time_or(Some(info.expires_us), "-");
    let mut text = format!("Signed in as {} until {until}.", visible(&info.identity));
    for reach in &kept.session.reach {
        let _ = write!(text, "\n  rowgate connect {}", visible(&reach.target));
    }
    context.one(info, &text)
}

/// Ends the session password, here and at the gateway.
pub(super) fn logout(context: &Context) -> Result<(), CliError> {
    let path = Kept::path()?;
    let Some(kept) = Kept::read(&path)? else {
        return context.one(&serde_json::json!({ "ended": false }), "Nobody was signed in.");
    };
    // It goes from here, whatever the gateway says.
    fs::remove_file(&path)
        .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))?;
    let pages = Pages::at(&kept.gateway, kept.ca.as_deref())?;
    let (status, _) = block_on(pages.post("device/revoke", &[("token", &kept.session.password)]))?;
    if !status.is_success() {
        let text = format!("{}: it is forgotten here, but the gateway says {status}", pages.url);
        return Err(CliError::failed(text));
    }
    context.one(&serde_json::json!({ "ended": true }), "Signed out.")
}

/// The pages of a gateway, for a program.
struct Pages {
    url: Url,
    http: Client,
}

/// What says no (RFC 6749, 5.2).
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

/// What says yes.
#[derive(serde::Deserialize)]
struct Granted {
    session: PasswordAnswer,
}

impl Pages {
    fn at(url: &str, ca: Option<&Path>) -> Result<Self, CliError> {
        let wrong = |why: &str| CliError::input(format!("--gateway {}: {why}", visible(url)));
        let mut url_of = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        let host = url_of.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_near = host == "localhost"
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if url_of.scheme() != "https" && !(url_of.scheme() == "http" && is_near) {
            return Err(wrong("the password would travel in clear; use https"));
        }
        url_of.set_path("/");
        url_of.set_query(None);
        let proxies = if url_of.scheme() == "https" { Proxies::AsSaid } else { Proxies::None };
        let http = https::client(ca, PATIENCE, proxies).map_err(|error| match (error, ca) {
            (HttpsError::Ca(why), Some(path)) => {
                CliError::input(format!("--ca {}: {why}; give a PEM bundle", path.display()))
            }
            (error, _) => wrong(&error.to_string()),
        })?;
        Ok(Self { url: url_of, http })
    }

    async fn sign_in(&self, args: &LoginArgs) -> Result<PasswordAnswer, CliError> {
        let from: Vec<_> = args.from.iter().map(ToString::to_string).collect();
        let (target, from) = (args.target.join(","), from.join(","));
        let ttl = args.ttl.map(|seconds| seconds.to_string());
        let mut form = vec![
            ("client_id", "rowgate"),
            ("label", args.label.as_str()),
            ("target", &target),
            ("from", &from),
        ];
        form.extend(ttl.as_deref().map(|ttl| ("ttl_s", ttl)));
        let (status, body) = self.post("device/code", &form).await?;
        if !status.is_success() {
            return Err(self.refused(status, &body));
        }
        let code: CodeAnswer = self.read(&body)?;
        eprintln!(
            "Open {} and sign in.\nAgree only if it shows this code: {}",
            visible(&code.verification_uri_complete),
            visible(&code.user_code)
        );
        self.wait(&code).await
    }

    /// Looks whether the person has agreed, as often as the gateway likes.
    async fn wait(&self, code: &CodeAnswer) -> Result<PasswordAnswer, CliError> {
        let since = Instant::now();
        let lives = Duration::from_secs(code.expires_in);
        let mut pause = Duration::from_secs(code.interval.max(1)).min(MAX_PAUSE);
        let form = [
            ("grant_type", GRANT),
            ("client_id", "rowgate"),
            ("device_code", code.device_code.as_str()),
        ];
        while since.elapsed() < lives {
            tokio::time::sleep(pause).await;
            let (status, body) = self.post("device/token", &form).await?;
            if status.is_success() {
                let Granted { session } = self.read(&body)?;
                return Ok(session);
            }
            match self.read::<Refusal>(&body).unwrap_or_default().error.as_str() {
                "authorization_pending" => {}
                "slow_down" => pause = (pause + SLOW_DOWN).min(MAX_PAUSE),
                _ => return Err(self.refused(status, &body)),
            }
        }
        Err(CliError::failed("nobody agreed in time; run it again"))
    }

    async fn post(
        &self,
        path: &str,
        form: &[(&str, &str)],
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), CliError> {
        let failed = |why: String| CliError::failed(format!("{}: {why}", self.url));
        let url = self.url.join(path).map_err(|error| failed(error.to_string()))?;
        let request = self.http.post(url).body(https::form(form.iter().copied()));
        let request = request.header("content-type", https::FORM);
        let answer = request.send().await.map_err(|error| failed(https::said(error)))?;
        let status = answer.status();
        Ok((status, https::body(answer, MAX_ANSWER_BYTES).await.map_err(failed)?))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CliError> {
        serde_json::from_slice(body).map_err(|_| {
            let text = format!(
                "{}: this answers, but not as a gateway's pages do; give the URL that they have",
                self.url
            );
            CliError::failed(text)
        })
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> CliError {
        match self.read::<Refusal>(body) {
            Ok(refusal) if !refusal.error.is_empty() => {
                let why = if refusal.error_description.is_empty() {
                    refusal.error
                } else {
                    refusal.error_description
                };
                CliError::failed(format!("the gateway says no: {}", visible(&why)))
            }
            _ => CliError::failed(format!("{}: the gateway says {status}", self.url)),
        }
    }
}
