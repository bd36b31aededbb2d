//! The targets while the gateway runs: added, listed, checked, removed; `rotation` exchanges what it logs in with. Each
//! change is made in the store first and then to what runs, under one lock.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard, Notify, mpsc};

use super::custody_start::Opened;
use super::passed::Passed;
use super::running::{Command, Running};
use super::schemas::Looks;
use super::settings::{self, Common};
use super::{account, check_target};
use crate::clock::now_us;
use crate::config::{self, Config, Custody as Rules, SEALED, Target};
use crate::control::{
    Change, Custody, KeyAnswer, NewTarget, Password, Rotation, RotationAnswer, TargetInfo,
    TargetRefused, TargetReport,
};
use crate::net::side::SideTarget;
use crate::net::{Credentials, SchemaRefresh as _, TargetRuntime};
use crate::policy::Snapshot;
use crate::secret::{self, Secret};
use crate::store::{Store, StoredTarget};
use crate::vault::{Bound, KeyRing, Login, Vault, sealed_under};

/// How long whoever adds or rotates waits for the database's word.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Longest password: servers take less.
const MAX_PASSWORD: usize = 4_096;

/// What custody works on.
pub(super) struct Around {
    pub(super) common: Common,
    pub(super) store: Store,
    pub(super) running: Arc<Running>,
    pub(super) looks: Arc<Looks>,
    pub(super) published: Arc<ArcSwap<Snapshot>>,
    pub(super) commands: mpsc::Sender<Command>,
}

impl Around {
    pub(super) fn new(
        common: Common,
        store: &Store,
        running: &Arc<Running>,
        (looks, published, commands): (Arc<Looks>, Arc<ArcSwap<Snapshot>>, mpsc::Sender<Command>),
    ) -> Self {
        let (store, running) = (store.clone(), Arc::clone(running));
        Self { common, store, running, looks, published, commands }
    }
}

/// Who has the credentials.
pub(super) struct Custodian {
    pub(super) rules: Rules,
    pub(super) has_vault: bool,
    pub(super) vault: Vault,
    pub(super) around: Around,
    pub(super) state: Mutex<State>,
    pub(super) wake: Notify,
}

pub(super) struct State {
    pub(super) ring: Option<KeyRing>,
    pub(super) held: Vec<Held>,
}

/// A target and its credentials.
pub(super) struct Held {
    pub(super) index: usize,
    pub(super) target: Target,
    pub(super) credentials: Arc<Credentials>,
    /// As the store has it; none: it is in the configuration.
    pub(super) row: Option<StoredTarget>,
    /// Why its reference led to nothing when it was last read.
    pub(super) trouble: Option<String>,
    /// Microseconds since the epoch, of the end of the last overlap.
    pub(super) overlap_until_us: Option<i64>,
}

impl Custodian {
    pub(super) fn new(config: &Config, opened: Opened, around: Around) -> Self {
        let Opened { ring, vault, configured, .. } = opened;
        let (rules, has_vault) = (config.custody.clone(), config.vault.is_some());
        let state = Mutex::new(State { ring, held: configured });
        Self { rules, has_vault, vault, around, state, wake: Notify::new() }
    }

    /// Another pair of the clients' TLS, for targets to come.
    pub(super) fn set_client_tls(&self, renewed: &Arc<rustls::ServerConfig>) {
        self.around.common.set_client_tls(renewed);
    }

    /// References are to be read anew at once.
    pub(super) fn reread(&self) {
        self.wake.notify_one();
    }

    /// Brings the store's targets up, each by itself: one that can't be listened for keeps the others from nothing.
    pub(super) async fn raise_stored(&self, stored: Vec<Held>) {
        for held in stored {
            let name = held.target.name.clone();
            let mut state = self.state.lock().await;
            let (listeners, problem) = match settings::bind(&held.target, &mut Passed::default()) {
                Ok(listeners) => (listeners, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            if let Some(problem) = &problem {
                tracing::error!(
                    target = name,
                    problem,
                    "a target of the store is not listened for"
                );
            }
            if let Err(error) = self.raise(&mut state, held, listeners, problem).await {
                tracing::error!(target = name, %error, "a target of the store can't be had");
            }
        }
    }

    /// Makes a target known to all parts, looks at its database, and then lets clients in: the handshake repeats what
    /// was seen.
    async fn raise(
        &self,
        state: &mut MutexGuard<'_, State>,
        mut held: Held,
        listeners: Vec<crate::net::Listener>,
        problem: Option<String>,
    ) -> Result<usize, TargetRefused> {
        let Around { common, running, looks, .. } = &self.around;
        let net = running.net().ok_or_else(ending)?;
        let runtime = settings::runtime(&held.target, common, Arc::clone(&held.credentials));
        let runtime = runtime.map_err(TargetRefused::Input)?;
        let side = side(&runtime);
        let many = || TargetRefused::Conflict("there were too many targets; restart".to_owned());
        let index = net.add_target(runtime).ok_or_else(many)?;
        running.target_added(index, &held.target, problem);
        let every = Duration::from_secs(held.target.catalog_refresh_s.max(1));
        let failed = |error: &dyn std::fmt::Display| TargetRefused::Unavailable(error.to_string());
        looks.add(index, side, every).map_err(|error| failed(&error))?;
        held.index = index;
        state.held.push(held);
        let _ = tokio::time::timeout(PATIENCE, looks.refresh(index)).await;
        for listener in listeners {
            net.listen(index, listener).map_err(|error| failed(&error))?;
        }
        Ok(index)
    }

    async fn add_target(&self, new: NewTarget, by: &str) -> Result<TargetInfo, TargetRefused> {
        let NewTarget { target, password, credential } = new;
        let reference = match (&password, credential) {
            (Some(_), None) => SEALED.to_owned(),
            (None, Some(reference)) => reference,
            _ => return Err(input("password: give it, or a credential that says where it is")),
        };
        let target = self.settled(target, reference)?;
        let mut state = self.state.lock().await;
        if let Some(held) = state.held.iter().find(|held| held.target.name == target.name) {
            let (name, mend) = match held.row {
                None => (&target.name, "it is in the configuration; choose another name"),
                Some(_) => (&target.name, "rotate its credential, or remove it first"),
            };
            return Err(TargetRefused::Conflict(format!("there is a target {name:?}: {mend}")));
        }
        let listeners =
            settings::bind(&target, &mut Passed::default()).map_err(TargetRefused::Conflict)?;
        let login = self.login(&target, password).await?;
        let settings = serde_json::to_string(&target).map_err(|_| input("target: no JSON"))?;
        let sealed = if target.password == SEALED {
            let bound = Bound { name: &target.name, settings: &settings };
            Some(sealing(&state)?.seal(bound, &login)?)
        } else {
            None
        };
        let credentials = Credentials::new(account(&target, login).map_err(TargetRefused::Input)?);
        // What can't be had is found before anything is kept.
        settings::runtime(&target, &self.around.common, Arc::clone(&credentials))
            .map_err(TargetRefused::Input)?;
        let row = StoredTarget {
            name: target.name.clone(),
            settings,
            sealed,
            before: None,
            created_us: now_us(),
            created_by: by.to_owned(),
            rotated_us: None,
            rotated_by: None,
        };
        if !self.around.store.insert_target(&row).await? {
            return Err(TargetRefused::Conflict(format!("there is a target {:?}", row.name)));
        }
        let held = Held::new(target, credentials, Some(row));
        let index = self.raise(&mut state, held, listeners, None).await?;
        let held = state.held.iter().find(|held| held.index == index).ok_or_else(ending)?;
        Ok(self.info(held))
    }

    /// A target's settings as they are kept.
    fn settled(
        &self,
        mut target: Map<String, Value>,
        reference: String,
    ) -> Result<Target, TargetRefused> {
        if target.contains_key("password") {
            return Err(input("target.password: give it beside the target, not in it"));
        }
        target.insert("password".to_owned(), Value::String(reference));
        let target: Target = serde_json::from_value(Value::Object(target))
            .map_err(|error| TargetRefused::Input(format!("target: {error}")))?;
        config::check_stored(&target, self.has_vault).map_err(TargetRefused::Input)?;
        Ok(target)
    }

    /// What is logged in with: the password that was given, or what the reference leads to.
    pub(super) async fn login(
        &self,
        target: &Target,
        password: Option<Password>,
    ) -> Result<Login, TargetRefused> {
        let password = match password {
            Some(given) => {
                let bytes = given.expose().as_bytes();
                if bytes.is_empty() || bytes.len() > MAX_PASSWORD || bytes.contains(&0) {
                    return Err(input("password: 1 to 4096 bytes, none of them 0"));
                }
                Secret::new(bytes.to_vec())
            }
            None => self.vault.resolve(&target.password).await?,
        };
        Ok(Login { user: target.user.clone(), password })
    }

    async fn remove_target(&self, name: &str) -> Result<(), TargetRefused> {
        let mut state = self.state.lock().await;
        let at = state.held.iter().position(|held| held.target.name == name);
        let at = at.ok_or_else(|| TargetRefused::Unknown(name.to_owned()))?;
        if state.held.get(at).is_some_and(|held| held.row.is_none()) {
            return Err(TargetRefused::Conflict(format!(
                "target {name:?} is in the configuration; take it out there, and restart"
            )));
        }
        if !self.around.store.remove_target(name).await? {
            tracing::warn!(target = name, "a target was removed from the store by someone else");
        }
        let held = state.held.swap_remove(at);
        if let Some(net) = self.around.running.net() {
            net.remove_target(held.index);
        }
        self.around.looks.remove(held.index);
        self.around.running.target_removed(held.index);
        let removed = Command::Removed { target: held.index };
        let _ = self.around.commands.send(removed).await;
        tracing::info!(target = name, "a target was removed");
        Ok(())
    }

    async fn check_target(&self, name: &str) -> Result<TargetReport, TargetRefused> {
        let (side, index, target) = {
            let state = self.state.lock().await;
            let held = state.held.iter().find(|held| held.target.name == name);
            let held = held.ok_or_else(|| TargetRefused::Unknown(name.to_owned()))?;
            let credentials = Arc::clone(&held.credentials);
            let runtime = settings::runtime(&held.target, &self.around.common, credentials);
            (side(&runtime.map_err(TargetRefused::Input)?), held.index, held.target.clone())
        };
        let snapshot = self.around.published.load_full();
        let catalog = snapshot.catalogs.get(index).cloned().flatten();
        let report = tokio::task::spawn_blocking(move || {
            check_target::report(&side, &target, catalog.as_deref())
        });
        report.await.map_err(|error| TargetRefused::Unavailable(error.to_string()))
    }

    pub(super) fn info(&self, held: &Held) -> TargetInfo {
        let Held { target, row, .. } = held;
        let down = self.around.running.target(held.index).and_then(|(_, down)| down);
        let settings = serde_json::to_value(target).ok();
        let mut settings = settings.and_then(|s| s.as_object().cloned()).unwrap_or_default();
        settings.remove("password");
        settings.retain(|_, value| !value.is_null());
        let key = row.as_ref().and_then(|row| row.sealed.as_deref()).and_then(sealed_under);
        TargetInfo {
            name: target.name.clone(),
            origin: if row.is_some() { "store" } else { "config" }.to_owned(),
            listen: target.listens(),
            address: target.address.clone(),
            user: target.user.clone(),
            settings,
            credential: target.password.clone(),
            key: key.map(|key| key.to_string()),
            up: down.is_none(),
            detail: held.trouble.clone().or(down).unwrap_or_default(),
            taken: held.credentials.is_proven(),
            overlap_until_us: held.overlap_until_us.filter(|until_us| *until_us > now_us()),
            created_us: row.as_ref().map(|row| row.created_us),
            created_by: row.as_ref().map(|row| row.created_by.clone()),
            rotated_us: row.as_ref().and_then(|row| row.rotated_us),
            rotated_by: row.as_ref().and_then(|row| row.rotated_by.clone()),
        }
    }
}

impl Held {
    pub(super) fn new(
        target: Target,
        credentials: Arc<Credentials>,
        row: Option<StoredTarget>,
    ) -> Self {
        let before = row.as_ref().and_then(|row| row.before.as_ref());
        let overlap_until_us = before.map(|before| before.until_us);
        Self { index: usize::MAX, target, credentials, row, trouble: None, overlap_until_us }
    }

    /// Whether this is what is logged in with.
    pub(super) fn has(&self, login: &Login) -> bool {
        self.credentials.newest().is_some_and(|account| {
            account.user == login.user
                && secret::equal(account.password.expose(), login.password.expose())
        })
    }
}

pub(super) fn sealing(state: &State) -> Result<&KeyRing, TargetRefused> {
    state.ring.as_ref().ok_or_else(no_key)
}

pub(super) fn no_key() -> TargetRefused {
    let text = "custody.master_key is not set, so nothing can be sealed; \
                write master_key = \"file:master.key\" under [custody], and restart";
    TargetRefused::Conflict(text.to_owned())
}

pub(super) fn side(runtime: &TargetRuntime) -> SideTarget {
    SideTarget {
        address: runtime.address.clone(),
        credentials: Arc::clone(&runtime.credentials),
        tls: runtime.tls.clone(),
        proxy_protocol: runtime.proxy_protocol,
    }
}

pub(super) fn input(text: &str) -> TargetRefused {
    TargetRefused::Input(text.to_owned())
}

pub(super) fn ending() -> TargetRefused {
    TargetRefused::Unavailable("the gateway is starting or draining".to_owned())
}

impl Custody for Custodian {
    fn targets(&self) -> Change<'_, Vec<TargetInfo>> {
        Box::pin(async {
            let state = self.state.lock().await;
            Ok(state.held.iter().map(|held| self.info(held)).collect())
        })
    }

    fn add<'a>(&'a self, new: NewTarget, by: &'a str) -> Change<'a, TargetInfo> {
        Box::pin(self.add_target(new, by))
    }

    fn rotate<'a>(&'a self, of: &'a str, to: Rotation, by: &'a str) -> Change<'a, RotationAnswer> {
        Box::pin(self.rotate_target(of, to, by))
    }

    fn remove<'a>(&'a self, name: &'a str) -> Change<'a, ()> {
        Box::pin(self.remove_target(name))
    }

    fn check<'a>(&'a self, name: &'a str) -> Change<'a, TargetReport> {
        Box::pin(self.check_target(name))
    }

    fn rotate_key(&self) -> Change<'_, KeyAnswer> {
        Box::pin(self.exchange_key())
    }
}
