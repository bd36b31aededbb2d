//! A real OpenID provider on a free port of loopback: `tests/idp/provider.mjs`, which ends with whoever started it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::{http, setup};

/// The secret of the gateway's pages at it.
const PAGES_SECRET: &str = "a secret of the pages: 100%";

/// A running provider; ended when dropped.
#[derive(Debug)]
pub struct Issuer {
    /// What its tokens say in `iss`.
    pub url: String,
    child: Child,
    _input: ChildStdin,
}

impl Issuer {
    /// Starts one.
    pub fn start() -> Result<Self> {
        Self::start_at(0)
    }

    /// Starts one on this port, where another was.
    pub fn start_at(port: u16) -> Result<Self> {
        let folder = setup::issuer()?;
        let mut node = Command::new("node");
        node.arg("provider.mjs").arg(port.to_string()).current_dir(folder);
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = node.spawn().context("starting node")?;
        let input = child.stdin.take().context("no stdin")?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut url)?;
        let url = url.trim().to_owned();
        ensure!(url.starts_with("http://"), "the provider did not start");
        Ok(Self { url, child, _input: input })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    /// The `[[issuers]]` table for it.
    pub fn table(&self, more: &str) -> String {
        let url = &self.url;
        format!(
            "[[issuers]]\nname = \"idp\"\nurl = \"{url}\"\naudience = [\"rowgate\"]\n\
             algorithms = [\"ES256\", \"RS256\", \"EdDSA\"]\ngroups = \"groups\"\nkind = \"agent\"\naliases = [\"oidc\"]\n{more}\n"
        )
    }

    /// The `[[issuers]]` table for it, with which people sign in to the pages at this address; the provider is told of
    /// them.
    pub fn pages_table(&self, pages: &str, secret: &Path, more: &str) -> Result<String> {
        let back = format!("{pages}/sign-in/oidc/idp/callback");
        let body = format!("{{\"redirect_uris\":[\"{back}\"]}}");
        self.ask("POST", "/test/pages", Some(("application/json", &body)))?;
        std::fs::write(secret, PAGES_SECRET)?;
        std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600))?;
        Ok(self.table(&format!(
            "client_id = \"rowgate-pages\"\nclient_secret = \"file:{}\"\nscopes = [\"groups\"]\ntitle = \"Example Corp\"\n{more}",
            secret.display()
        )))
    }

    /// The next code is answered with this ID token.
    pub fn answer_with(&self, id_token: &str) -> Result<()> {
        let body = format!("{{\"id_token\":\"{id_token}\"}}");
        self.ask("POST", "/test/answer", Some(("application/json", &body))).map(drop)
    }

    /// An access token of an agent for this audience, by the client credentials grant (RFC 6749, RFC 8707).
    pub fn token(&self, agent: &str, secret: &str, audience: &str) -> Result<String> {
        let form = format!(
            "grant_type=client_credentials&scope=sql&client_id={agent}&client_secret={}&resource=http://gateway/{audience}",
            secret.replace(' ', "%20")
        );
        let answer =
            self.ask("POST", "/token", Some(("application/x-www-form-urlencoded", &form)))?;
        let (_, rest) = answer.split_once("\"access_token\":\"").context(answer.clone())?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    }

    /// The token of `etl-bot`, who is in the group `agents`.
    pub fn of_etl_bot(&self) -> Result<String> {
        self.token("etl-bot", "a secret of the agent", "rowgate")
    }

    /// A token with this header and these claims (JSON objects), signed with a key of the provider's.
    pub fn sign(&self, header: &str, claims: &str) -> Result<String> {
        let body = format!("{{\"header\":{header},\"claims\":{claims}}}");
        self.ask("POST", "/test/sign", Some(("application/json", &body)))
    }

    /// What `etl-bot`'s tokens say, but for these claims (members of JSON).
    pub fn claims(&self, changed: &str) -> Result<String> {
        let (url, end) = (&self.url, SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 600);
        let comma = if changed.is_empty() { "" } else { "," };
        // The later of two of one name counts, to JavaScript.
        Ok(format!(
            "{{\"iss\":\"{url}\",\"aud\":\"rowgate\",\"sub\":\"etl-bot\",\"exp\":{end},\"groups\":[\"agents\"]{comma}{changed}}}"
        ))
    }

    /// New keys.
    pub fn rotate(&self) -> Result<()> {
        self.ask("POST", "/test/rotate", None).map(drop)
    }

    /// How often its keys were asked for.
    pub fn fetches(&self) -> Result<u32> {
        Ok(self.ask("GET", "/test/fetches", None)?.trim().parse()?)
    }

    fn ask(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<String> {
        let (status, body) = http::ask(self.port(), method, path, body)?;
        ensure!(status == 200, "{path}: {status}: {body}");
        Ok(body)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
