//! What the pages' sign-in by SAML is made of: the configuration's `[[saml]]`, and the files that it names.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::{Config, Saml};
use crate::control::web::SamlDoor;
use crate::identity::saml::{IdentityProvider, RequestKey, ServiceProvider, SigningKey};

use super::GatewayError;

/// All of them; `site` is where the pages are.
pub(super) fn doors(
    file: &Path,
    config: &Config,
    site: &str,
) -> Result<Vec<Arc<SamlDoor>>, GatewayError> {
    let door = |of: &Saml| {
        let name = &of.name;
        door(of, site).map_err(|(key, what)| {
            GatewayError::in_file(file, format_args!("saml.{name}.{key}: {what}"))
        })
    };
    config.saml.iter().map(|of| door(of).map(Arc::new)).collect()
}

type Refused = (&'static str, String);

fn door(of: &Saml, site: &str) -> Result<SamlDoor, Refused> {
    let address = |what| format!("{site}/saml/{}/{what}", of.name);
    let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let named = of.group_names.iter();
    let service = ServiceProvider {
        provider: provider(of)?,
        entity_id: of.sp_entity_id.clone().unwrap_or_else(|| address("metadata")),
        acs_url: address("acs"),
        subject: of.subject.clone(),
        name_id_formats: of.name_id_formats.iter().map(|format| format.uri().to_owned()).collect(),
        groups: of.groups.clone(),
        group_names: named.map(|(theirs, ours)| (theirs.clone(), ours.clone())).collect(),
        kind: of.kind,
        skew_s: seconds(of.skew_s),
        lifetime_s: seconds(of.lifetime_s),
        request_key: request_key(of)?,
    };
    let title = of.title.clone().unwrap_or_else(|| of.name.clone());
    Ok(SamlDoor { name: of.name.clone(), title, service })
}

fn provider(of: &Saml) -> Result<IdentityProvider, Refused> {
    if let Some(path) = &of.metadata {
        let text = String::from_utf8(read("metadata", path)?)
            .map_err(|_| ("metadata", format!("{}: not UTF-8", path.display())))?;
        return IdentityProvider::of_metadata(&text, &of.entity_id)
            .map_err(|error| ("metadata", format!("{}: {error}", path.display())));
    }
    let mut keys = Vec::new();
    for path in &of.certificates {
        let pem = read("certificates", path)?;
        for der in CertificateDer::pem_slice_iter(&pem) {
            let key = der.ok().and_then(|der| SigningKey::of_certificate(&der));
            keys.push(key.ok_or_else(|| no_certificate("certificates", path))?);
        }
        if keys.is_empty() {
            return Err(no_certificate("certificates", path));
        }
    }
    let sso_url = of.sso_url.clone().unwrap_or_default();
    Ok(IdentityProvider { entity_id: of.entity_id.clone(), sso_url, keys })
}

fn request_key(of: &Saml) -> Result<Option<RequestKey>, Refused> {
    let Some(path) = &of.key else { return Ok(None) };
    // As any credential: not for every user of this machine to read.
    let key = crate::vault::resolve(&format!("file:{}", path.display()));
    let key = key.map_err(|error| ("key", error.to_string()))?;
    let certificate = of.certificate.as_ref().map(|path| read("certificate", path)).transpose()?;
    let made = RequestKey::from_pem(key.expose(), certificate.as_deref());
    let what = || {
        let path = path.display();
        format!("{path}: no RSA key (PKCS#8, PEM), or its certificate is none")
    };
    made.map(Some).ok_or_else(|| ("key", what()))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Refused> {
    std::fs::read(path).map_err(|error| (key, format!("{}: {error}", path.display())))
}

fn no_certificate(key: &'static str, path: &Path) -> Refused {
    (key, format!("{}: no certificate (PEM) of an RSA or EC key", path.display()))
}
