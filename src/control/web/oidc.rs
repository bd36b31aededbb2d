//! Sign-in by an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0, section 3.1; RFC 7636;
//! RFC 9700). What its ID token says is checked by `identity`, as at a login to a database.

use std::time::Duration;

use reqwest::Url;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::flow::Flow;
use super::{Door, Web};
use crate::clock::now_us;
use crate::config::Issuer;
use crate::control::issuer_client::{Discovery, IssuerClient};
use crate::https;
use crate::identity::{LoginRefusal, Principal, SignIn};
use crate::secret::Secret;

/// How long a discovery document is used.
const KEEP: Duration = Duration::from_mins(10);

/// Longest code that is passed on.
const MAX_CODE: usize = 4 << 10;

/// An issuer that people sign in by.
#[derive(Debug)]
pub struct Provider {
    pub(super) name: String,
    title: String,
    issuer: String,
    client_id: String,
    client_secret: Option<Secret>,
    scope: String,
    client: IssuerClient,
    found: Mutex<Option<(Instant, Discovery)>>,
}

/// Why a sign-in came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignInRefused {
    /// The provider can't be reached, or answers otherwise than it should. For the log, since its operator can mend it.
    #[error("{0}")]
    Provider(String),
    /// The answer is not that to this sign-in.
    #[error("{0}")]
    Answer(&'static str),
    /// The token is none that counts.
    #[error("the ID token was refused ({})", .0.label())]
    Token(LoginRefusal),
}

#[derive(serde::Deserialize)]
struct Tokens {
    id_token: String,
}

impl Provider {
    /// For an issuer with a `client_id`; `None` for others.
    pub fn new(
        issuer: &Issuer,
        client: IssuerClient,
        client_secret: Option<Secret>,
    ) -> Option<Self> {
        let client_id = issuer.client_id.clone()?;
        let more = issuer.scopes.iter().filter(|scope| *scope != "openid");
        let scope = std::iter::once("openid").chain(more.map(String::as_str));
        Some(Self {
            name: issuer.name.clone(),
            title: issuer.title.clone().unwrap_or_else(|| issuer.name.clone()),
            issuer: issuer.url.clone(),
            client_id,
            client_secret,
            scope: scope.collect::<Vec<_>>().join(" "),
            client,
            found: Mutex::default(),
        })
    }

    pub(super) fn source(&self) -> String {
        format!("oidc:{}", self.name)
    }

    pub(super) fn door(&self) -> Door {
        let path = format!("/sign-in/oidc/{}", self.name);
        Door { title: self.title.clone(), path, source: self.source() }
    }

    fn redirect_uri(&self, site: &str) -> String {
        format!("{site}/sign-in/oidc/{}/callback", self.name)
    }

    async fn discovery(&self) -> Result<Discovery, SignInRefused> {
        let mut found = self.found.lock().await;
        if let Some((since, document)) = found.as_ref().filter(|(since, _)| since.elapsed() < KEEP)
        {
            let _ = since;
            return Ok(document.clone());
        }
        let document = self.client.discover().await.map_err(SignInRefused::Provider)?;
        *found = Some((Instant::now(), document.clone()));
        Ok(document)
    }

    /// Where the browser goes to sign in.
    pub(super) async fn authorization(
        &self,
        site: &str,
        flow: &Flow,
    ) -> Result<String, SignInRefused> {
        let document = self.discovery().await?;
        let end =
            document.authorization_endpoint.ok_or_else(|| missing("authorization_endpoint"))?;
        let mut url =
            Url::parse(&end).map_err(|error| SignInRefused::Provider(error.to_string()))?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri(site))
            .append_pair("scope", &self.scope)
            .append_pair("state", &flow.state())
            .append_pair("nonce", &flow.nonce())
            .append_pair("code_challenge", &flow.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    /// Whether an answer is this provider's, as far as it says (RFC 9207): another's, sent here, would have its code
    /// redeemed at the wrong place.
    pub(super) async fn gave(&self, issuer: Option<&str>) -> Result<(), SignInRefused> {
        let must = self.discovery().await?.authorization_response_iss_parameter_supported;
        match issuer {
            Some(issuer) if issuer == self.issuer => Ok(()),
            None if !must => Ok(()),
            _ => Err(SignInRefused::Answer("another provider gave the answer")),
        }
    }

    /// Who signed in, for this code.
    pub(super) async fn redeem(
        &self,
        web: &Web,
        flow: &Flow,
        code: &str,
    ) -> Result<Principal, SignInRefused> {
        if code.is_empty() || code.len() > MAX_CODE {
            return Err(SignInRefused::Answer("the answer has no code"));
        }
        let token = self.exchange(&web.settings().url, flow, code).await?;
        let nonce = flow.nonce();
        let sign_in = SignIn { issuer: &self.issuer, client: &self.client_id, nonce: &nonce };
        let check = || web.snapshot().directory.signed_in(&sign_in, &token, now_us());
        let checked = match check() {
            // A key that it has since it last said.
            Err(LoginRefusal::Key(at)) => {
                web.deps().gateway.refresh_keys(at).await;
                check()
            }
            checked => checked,
        };
        checked.map_err(SignInRefused::Token)
    }

    async fn exchange(&self, site: &str, flow: &Flow, code: &str) -> Result<Secret, SignInRefused> {
        let document = self.discovery().await?;
        let end = document.token_endpoint.ok_or_else(|| missing("token_endpoint"))?;
        let methods = document.token_endpoint_auth_methods_supported;
        let takes_basic =
            methods.is_none_or(|all| all.iter().any(|method| method == "client_secret_basic"));
        let mut form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", self.redirect_uri(site)),
            ("code_verifier", flow.verifier()),
        ];
        let secret = self
            .client_secret
            .as_ref()
            .map(|secret| String::from_utf8_lossy(secret.expose()).into_owned());
        let mut basic = None;
        match secret {
            // (RFC 6749, section 2.3.1: each is form-encoded first.)
            Some(secret) if takes_basic => {
                basic = Some((encoded(&self.client_id), encoded(&secret)));
            }
            Some(secret) => {
                form.push(("client_id", self.client_id.clone()));
                form.push(("client_secret", secret));
            }
            None => form.push(("client_id", self.client_id.clone())),
        }
        let basic = basic.as_ref().map(|(user, secret)| (user.as_str(), secret.as_str()));
        let form = https::form(form.iter().map(|(key, value)| (*key, value.as_str())));
        let answer = self.client.post(&end, basic, form).await;
        let answer = answer.map_err(SignInRefused::Provider)?;
        let tokens: Tokens = serde_json::from_slice(&answer)
            .map_err(|_| SignInRefused::Provider(format!("{end}: no ID token in the answer")))?;
        Ok(Secret::new(tokens.id_token.into_bytes()))
    }
}

fn missing(what: &str) -> SignInRefused {
    SignInRefused::Provider(format!("its discovery document has no {what}"))
}

/// One text, so encoded.
fn encoded(text: &str) -> String {
    let form = https::form([("x", text)]);
    form.strip_prefix("x=").unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded() {
        assert_eq!(encoded("a secret:"), "a+secret%3A");
    }
}
