//! What the gateway asks of others over HTTPS: issuers, vaults, and (from the command line) gateways. Bounded in time and size;
//! no redirection is followed, since where secrets go and keys come from is what was configured.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Response, Url, redirect};
use zeroize::Zeroizing;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The file of the CA can't be used.
    #[error("{0}")]
    Ca(String),
    /// TLS itself.
    #[error("HTTPS can't be set up: {0}")]
    SetUp(String),
}

/// Whether the environment's proxies are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// As the environment says. They see no more of HTTPS than where it goes.
    AsSaid,
    /// None: in plain HTTP they would be shown all of it.
    None,
}

/// A client each of whose calls takes so long at the most. With a CA, nobody else's certificates count.
pub fn client(
    ca: Option<&Path>,
    timeout: Duration,
    proxies: Proxies,
) -> Result<Client, HttpsError> {
    let mut builder = Client::builder()
        .user_agent(concat!("rowgate/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .timeout(timeout);
    if proxies == Proxies::None {
        builder = builder.no_proxy();
    }
    if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|error| HttpsError::Ca(error.to_string()))?;
        let bundle = Certificate::from_pem_bundle(&pem);
        let bundle = bundle.map_err(|error| HttpsError::Ca(error.to_string()))?;
        builder = builder.tls_certs_only(bundle);
    }
    builder.build().map_err(|error| HttpsError::SetUp(error.to_string()))
}

/// An answer's body, up to so many bytes.
pub async fn body(mut answer: Response, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    // Room at once: a buffer that grows leaves copies of a secret behind in memory.
    let length = answer.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(64 << 10);
    let mut body = Zeroizing::new(Vec::with_capacity(length.min(most)));
    while let Some(chunk) = answer.chunk().await.map_err(said)? {
        if body.len() + chunk.len() > most {
            return Err(format!("its answer is longer than {most} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with what is behind it, which reqwest's own text leaves out, and without the URL, which its caller names.
pub fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut inner = std::error::Error::source(&error);
    while let Some(error) = inner {
        text = format!("{text}: {error}");
        inner = error.source();
    }
    text
}

/// The type of what [`form`] writes.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// A form's fields, as a body.
pub fn form<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    // A query is written as a form is.
    let Ok(mut url) = Url::parse("http://form/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(form([("a", "1 &="), ("b", "é")]), "a=1+%26%3D&b=%C3%A9");
    }
}
