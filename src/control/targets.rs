//! `/v1/targets` and `/v1/key`: databases added, listed, checked, their credentials rotated, removed; the master key
//! exchanged. A credential comes in and never goes out. What is done is the composition root's: see [`Custody`].

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json, body::Bytes};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::error::ErrorAnswer;
use super::peer::Caller;
use super::{Answer, ControlDeps};
use crate::store::StoreError;
use crate::vault::VaultError;

/// A password on its way in. It is wiped, and its `Debug` is redacted.
#[derive(Clone, serde::Deserialize)]
#[serde(from = "String")]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes it over.
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Its text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl serde::Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// `POST /v1/targets`: one of `password` and `credential`.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewTarget {
    /// The keys of `[[targets]]`, without `password`.
    pub target: Map<String, Value>,
    /// The account's password, to be sealed in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Where it is: `env:NAME`, `file:PATH` or `vault:MOUNT/PATH#FIELD`, read by the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// `POST /v1/targets/{name}/rotate`. With neither `password` nor `credential`, what the reference leads to is read anew.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// The new password, to be sealed in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Where the new one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The new account's user; none: the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Seconds for which the old one is tried where the database refuses the new one; none: `custody.overlap_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u64>,
}

/// A target, without its credential.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct TargetInfo {
    /// Its name.
    pub name: String,
    /// `config` or `store`.
    pub origin: String,
    /// Where clients connect.
    pub listen: String,
    /// The database.
    pub address: String,
    /// The gateway's account there.
    pub user: String,
    /// Its settings, as `[[targets]]` has them.
    pub settings: Map<String, Value>,
    /// `sealed`, or the reference.
    pub credential: String,
    /// Under which key it is sealed.
    pub key: Option<String>,
    /// It answers, and its catalogue was read.
    pub up: bool,
    /// Why not.
    pub detail: String,
    /// The database has taken the credential that is in force.
    pub taken: bool,
    /// Microseconds since the epoch, until which the credential before is tried.
    pub overlap_until_us: Option<i64>,
    /// Microseconds since the epoch; none: it is in the configuration.
    pub created_us: Option<i64>,
    /// Who added it.
    pub created_by: Option<String>,
    /// Microseconds since the epoch, of the last rotation.
    pub rotated_us: Option<i64>,
    /// Who rotated it.
    pub rotated_by: Option<String>,
}

/// `GET /v1/targets`.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct TargetList {
    /// Those of the configuration first.
    pub targets: Vec<TargetInfo>,
}

/// What a rotation came to.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct RotationAnswer {
    /// The target, as it is now.
    pub target: TargetInfo,
    /// It is another credential than before.
    pub changed: bool,
    /// Why the database did not take it yet.
    pub refused: Option<String>,
}

/// What `rowgate target check` found.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct TargetReport {
    /// The target's name.
    pub name: String,
    /// The gateway can log in there.
    pub connected: bool,
    /// Why not.
    pub error: Option<String>,
    /// `MySQL` or `MariaDB`.
    pub flavour: String,
    /// The server's version.
    pub version: String,
    /// How the way there is protected.
    pub tls: TlsReport,
    /// The account, as the server knows it.
    pub account: String,
    /// What it was granted, in the server's words, without anything by which it could be proved.
    pub grants: Vec<String>,
    /// What it may do and Rowgate has no use for.
    pub too_much: Vec<Excess>,
    /// What Rowgate would need and it lacks.
    pub lacks: Vec<String>,
    /// Views that reach labelled columns.
    pub views: Vec<Reach>,
    /// Routines that do, or that can't be read.
    pub routines: Vec<String>,
    /// Tables with labelled columns.
    pub labelled: Vec<Reach>,
    /// Statements by which the account would be granted nothing that is labelled.
    pub second_wall: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// How a connection is protected.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct TlsReport {
    /// `TLSv1.3`; empty: there is none.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// How the certificate was verified.
    pub verified: String,
    /// `sha256:…` of it.
    pub fingerprint: String,
}

/// A privilege that is too much.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Excess {
    /// Which.
    pub privilege: String,
    /// On what.
    pub on: String,
    /// What it lets whoever has the account do.
    pub why: String,
}

/// A table or view, and the labelled columns that it shows.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Reach {
    /// `schema.name`.
    pub name: String,
    /// Its labelled columns with their labels.
    pub columns: Vec<String>,
}

/// `POST /v1/key/rotate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct KeyAnswer {
    /// The id of the key that seals now.
    pub key: String,
    /// How many targets' credentials were sealed anew.
    pub sealed: usize,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum TargetRefused {
    /// What was asked for can't be: one line that names the key and the mend.
    #[error("{0}")]
    Input(String),
    /// There is none.
    #[error("there is no target {0:?}")]
    Unknown(String),
    /// It stands in the way of itself.
    #[error("{0}")]
    Conflict(String),
    /// Another part failed.
    #[error("{0}")]
    Unavailable(String),
    /// Custody failed.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<TargetRefused> for ErrorAnswer {
    fn from(refused: TargetRefused) -> Self {
        let text = refused.to_string();
        match refused {
            TargetRefused::Input(_) | TargetRefused::Vault(VaultError::Form) => {
                Self::bad_request(&text)
            }
            TargetRefused::Unknown(_) => Self::not_found(&text),
            TargetRefused::Conflict(_) | TargetRefused::Vault(_) => Self::conflict(&text),
            TargetRefused::Unavailable(_) => Self::unavailable(&text),
            TargetRefused::Store(error) => Self::from(error),
        }
    }
}

/// A change on its way.
pub type Change<'a, T> = Answer<'a, Result<T, TargetRefused>>;

/// The targets and the keys, as the control plane may change them. Called on the control thread.
pub trait Custody: Send + Sync {
    /// Every target.
    fn targets(&self) -> Change<'_, Vec<TargetInfo>>;
    /// Adds one, and has it listened for.
    fn add<'a>(&'a self, new: NewTarget, by: &'a str) -> Change<'a, TargetInfo>;
    /// Exchanges the credential of the target of this name.
    fn rotate<'a>(&'a self, of: &'a str, to: Rotation, by: &'a str) -> Change<'a, RotationAnswer>;
    /// Takes one out; its sessions end.
    fn remove<'a>(&'a self, name: &'a str) -> Change<'a, ()>;
    /// Looks at one.
    fn check<'a>(&'a self, name: &'a str) -> Change<'a, TargetReport>;
    /// Exchanges the master key.
    fn rotate_key(&self) -> Change<'_, KeyAnswer>;
}

type Body = Result<Bytes, axum::extract::rejection::BytesRejection>;

fn custody(deps: &ControlDeps) -> Result<Arc<dyn Custody>, ErrorAnswer> {
    let starting = || ErrorAnswer::unavailable("the gateway is starting or draining");
    deps.gateway.custody().ok_or_else(starting)
}

pub(super) async fn list(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<TargetList>, ErrorAnswer> {
    caller.must_be_admin()?;
    Ok(Json(TargetList { targets: custody(&deps)?.targets().await? }))
}

pub(super) async fn show(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<TargetInfo>, ErrorAnswer> {
    caller.must_be_admin()?;
    let found = custody(&deps)?.targets().await?.into_iter().find(|target| target.name == name);
    Ok(Json(found.ok_or(TargetRefused::Unknown(name))?))
}

pub(super) async fn add(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<TargetInfo>, ErrorAnswer> {
    caller.must_be_admin()?;
    let new: NewTarget = secret(body)?;
    let custody = custody(&deps)?;
    let name = new.target.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    deps.record(&caller, "target.add", &name)?;
    Ok(Json(custody.add(new, &caller.identity).await?))
}

pub(super) async fn rotate(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<RotationAnswer>, ErrorAnswer> {
    caller.must_be_admin()?;
    let rotation: Rotation = secret(body)?;
    let custody = custody(&deps)?;
    deps.record(&caller, "target.rotate", &name)?;
    Ok(Json(custody.rotate(&name, rotation, &caller.identity).await?))
}

pub(super) async fn remove(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ErrorAnswer> {
    caller.must_be_admin()?;
    let custody = custody(&deps)?;
    deps.record(&caller, "target.remove", &name)?;
    custody.remove(&name).await?;
    Ok(Json(serde_json::json!({ "removed": name })))
}

pub(super) async fn check(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<TargetReport>, ErrorAnswer> {
    caller.must_be_admin()?;
    let custody = custody(&deps)?;
    deps.record(&caller, "target.check", &name)?;
    Ok(Json(custody.check(&name).await?))
}

pub(super) async fn rotate_key(
    State(deps): State<ControlDeps>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<KeyAnswer>, ErrorAnswer> {
    caller.must_be_admin()?;
    let custody = custody(&deps)?;
    deps.record(&caller, "key.rotate", "")?;
    Ok(Json(custody.rotate_key().await?))
}

/// A body that may hold a password: serde's words on wrong values quote them, and are not told.
fn secret<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, ErrorAnswer> {
    let body = body.map_err(|_| ErrorAnswer::too_large())?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(body).map_err(|error| {
        let said = error.to_string();
        let names_a_key = said.starts_with("unknown field") || said.starts_with("missing field");
        let other = "no JSON of such a request: a value is of another type".to_owned();
        ErrorAnswer::bad_request(&if names_a_key { said } else { other })
    })
}
