//! `vault:MOUNT/PATH#FIELD`: a field of a secret of HashiCorp Vault's KV engine, version 2, over HTTPS.
//!
//! It asks and takes no redirections: the token goes to the configured address and nowhere else. What the vault says in
//! an error is not passed on.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, StatusCode};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::{VaultError, resolve};
use crate::config::{Reference, VaultServer};
use crate::https::{self, HttpsError, Proxies};
use crate::secret::Secret;

/// Longest answer: Vault's own limit of a secret is 1 MiB, those with a password in them are a few hundred bytes.
const MAX_ANSWER: usize = 256 << 10;

/// Where references lead.
#[derive(Clone, Debug)]
pub struct Vault {
    server: Option<(VaultServer, Client)>,
}

impl Vault {
    /// As the configuration says; it connects nowhere yet.
    pub fn new(server: Option<&VaultServer>) -> Result<Self, VaultError> {
        let server = server.map(|server| client(server).map(|client| (server.clone(), client)));
        Ok(Self { server: server.transpose()? })
    }

    /// The secret that a reference names, as it is now.
    pub async fn resolve(&self, reference: &str) -> Result<Secret, VaultError> {
        match Reference::parse(reference) {
            Some(Reference::Vault { mount, path, field }) => self.fetch(mount, path, field).await,
            _ => resolve(reference),
        }
    }

    async fn fetch(&self, mount: &str, path: &str, field: &str) -> Result<Secret, VaultError> {
        let none = || VaultError::Vault("there is no [vault] in the configuration".to_owned());
        let (server, client) = self.server.as_ref().ok_or_else(none)?;
        let place = format!("{mount}/{path}");
        let failed = |why: String| VaultError::Vault(format!("{place}: {why}"));
        let token = resolve(&server.token)
            .map_err(|error| VaultError::Vault(format!("vault.token: {error}")))?;
        let mut header = HeaderValue::from_bytes(token.expose())
            .map_err(|_| VaultError::Vault("vault.token holds what no header may".to_owned()))?;
        header.set_sensitive(true);
        let base = server.address.trim_end_matches('/');
        let request = client.get(format!("{base}/v1/{mount}/data/{path}"));
        let request = request.header("X-Vault-Token", header).header("X-Vault-Request", "true");
        let answer = request.send().await.map_err(|error| failed(https::said(error)))?;
        if answer.status() != StatusCode::OK {
            return Err(failed(meaning(answer.status())));
        }
        let body = https::body(answer, MAX_ANSWER).await.map_err(failed)?;
        // (What serde says of it could quote it.)
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| failed("not an answer of the KV engine, version 2".to_owned()))?;
        // A deleted version has data that is null.
        let secret = answer.data.data.ok_or_else(|| failed("it was deleted".to_owned()))?;
        match secret.get(field) {
            Some(Field::Text(text)) if !text.is_empty() => Ok(Secret::from(text.as_str())),
            Some(Field::Text(_)) => Err(failed(format!("its field {field:?} is empty"))),
            Some(Field::Other) => Err(failed(format!("its field {field:?} is no string"))),
            None => Err(failed(format!("it has no field {field:?}"))),
        }
    }
}

fn client(server: &VaultServer) -> Result<Client, VaultError> {
    // Its address may be plain HTTP.
    let client =
        https::client(server.ca.as_deref(), Duration::from_secs(server.timeout_s), Proxies::None);
    client.map_err(|error| {
        VaultError::Vault(match (error, &server.ca) {
            (HttpsError::Ca(why), Some(path)) => {
                format!("vault.ca: {}: {why}; give a PEM bundle of the vault's CA", path.display())
            }
            (error, _) => error.to_string(),
        })
    })
}

fn meaning(status: StatusCode) -> String {
    match status {
        StatusCode::FORBIDDEN => {
            "it refuses vault.token there (403); is it good, and may it read that path?".to_owned()
        }
        StatusCode::NOT_FOUND => {
            "there is no such secret, or its engine is not KV of version 2 (404)".to_owned()
        }
        StatusCode::SERVICE_UNAVAILABLE => "it is sealed or in maintenance (503)".to_owned(),
        other => format!("it answers {other}"),
    }
}

#[derive(serde::Deserialize)]
struct Answer {
    data: Version,
}

#[derive(serde::Deserialize)]
struct Version {
    data: Option<HashMap<String, Field>>,
}

/// A field of a secret. It is wiped when it goes, whether it is the one that was asked for or not.
enum Field {
    Text(Zeroizing<String>),
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Field;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a field")
            }
            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(Zeroizing::new(text.to_owned())))
            }
            fn visit_string<E>(self, text: String) -> Result<Field, E> {
                Ok(Field::Text(Zeroizing::new(text)))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Field, A::Error> {
                while all.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Field, A::Error> {
                while all.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
