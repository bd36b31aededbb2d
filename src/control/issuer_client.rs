//! HTTPS to an OpenID issuer: its discovery document, its keys, its token endpoint. Bounded in time and size, and it
//! follows no redirection: where keys and tokens come from is what the operator and the issuer say.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use zeroize::Zeroizing;

use crate::config::Issuer;
use crate::https::{self, HttpsError, Proxies};

/// A document that takes longer is none: a login waits for two, the discovery document and the keys.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest document: those of issuers with dozens of keys are below 64 KiB.
const MAX_DOCUMENT: usize = 256 << 10;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum IssuerClientError {
    /// The file of its CA.
    #[error("{path}: issuers.{name}.ca: {why}; give a PEM bundle of the issuer's CA")]
    Ca {
        /// Which file.
        path: PathBuf,
        /// The issuer's name.
        name: String,
        /// Why.
        why: String,
    },
    /// TLS itself.
    #[error("issuers.{name}: HTTPS can't be set up: {why}")]
    Https {
        /// The issuer's name.
        name: String,
        /// Why.
        why: String,
    },
}

/// One client an issuer, since each may have a CA of its own.
#[derive(Clone, Debug)]
pub struct IssuerClient {
    url: String,
    http: Client,
}

/// What is read of a discovery document (OpenID Connect Discovery 1.0, section 3).
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Discovery {
    issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where people sign in.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// Where a code becomes a token.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// How a client may prove itself there; none said: by HTTP's basic scheme.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Its answers name it (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl IssuerClient {
    /// For this issuer.
    pub fn new(issuer: &Issuer) -> Result<Self, IssuerClientError> {
        let name = || issuer.name.clone();
        let http = https::client(issuer.ca.as_deref(), FETCH_TIMEOUT, Proxies::AsSaid);
        let http = http.map_err(|error| match (error, &issuer.ca) {
            (HttpsError::Ca(why), Some(path)) => {
                IssuerClientError::Ca { path: path.clone(), name: name(), why }
            }
            (HttpsError::Ca(why) | HttpsError::SetUp(why), _) => {
                IssuerClientError::Https { name: name(), why }
            }
        })?;
        Ok(Self { url: issuer.url.clone(), http })
    }

    /// Its discovery document (section 4), which must be its own.
    pub async fn discover(&self) -> Result<Discovery, String> {
        let base = self.url.trim_end_matches('/');
        let place = format!("{base}/.well-known/openid-configuration");
        let json = self.get(&place).await?;
        let document: Discovery =
            serde_json::from_slice(&json).map_err(|error| format!("{place}: {error}"))?;
        if document.issuer != self.url {
            return Err(format!("{place}: it is that of {}", document.issuer));
        }
        // Not less private than the way to the document itself.
        let ends = [&document.authorization_endpoint, &document.token_endpoint];
        for end in ends.into_iter().flatten().chain([&document.jwks_uri]) {
            if is_https(&self.url) && !is_https(end) {
                return Err(format!("{place}: {end} is no https URL"));
            }
        }
        Ok(document)
    }

    /// A document.
    pub async fn get(&self, url: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        answered(url, self.http.get(url)).await
    }

    /// Posts a form; the answer.
    pub(super) async fn post(
        &self,
        url: &str,
        basic: Option<(&str, &str)>,
        form: String,
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        let request = self.http.post(url).body(form);
        let request =
            request.header("content-type", https::FORM).header("accept", "application/json");
        let request = match basic {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        answered(url, request).await
    }
}

fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

async fn answered(url: &str, request: RequestBuilder) -> Result<Zeroizing<Vec<u8>>, String> {
    let at_url = |why: String| format!("{url}: {why}");
    let answer = request.send().await.map_err(|error| at_url(https::said(error)))?;
    if !answer.status().is_success() {
        return Err(at_url(answer.status().to_string()));
    }
    https::body(answer, MAX_DOCUMENT).await.map_err(at_url)
}
