//! Credentials exchanged while sessions go on: by whoever rotates one, where a reference leads to another, and all of the
//! store's under a new master key.

use std::sync::Arc;
use std::time::Duration;

use super::custody::{Custodian, Held, PATIENCE, State, ending, input, no_key, sealing, side};
use super::{account, settings};
use crate::clock::now_us;
use crate::config::{self, Reference, SEALED, Target};
use crate::control::{KeyAnswer, Rotation, RotationAnswer, TargetRefused};
use crate::net::SchemaRefresh as _;
use crate::secret::Secret;
use crate::store::{Before, Resealed, StoredTarget};
use crate::vault::{Bound, KeyRing, Login, VaultError};

/// While a credential can't be had, it is asked for this often.
const RETRY: Duration = Duration::from_secs(5);

impl Custodian {
    pub(super) async fn rotate_target(
        &self,
        name: &str,
        rotation: Rotation,
        by: &str,
    ) -> Result<RotationAnswer, TargetRefused> {
        const MONTH_S: u64 = 30 * 86_400;
        let overlap_s = rotation.overlap_s.unwrap_or(self.rules.overlap_s);
        if overlap_s > MONTH_S {
            return Err(input("overlap_s: 0 to 2592000 (a month)"));
        }
        let until_us = now_us().saturating_add(micros(overlap_s));
        let mut state = self.state.lock().await;
        let at = state.held.iter().position(|held| held.target.name == name);
        let at = at.ok_or_else(|| TargetRefused::Unknown(name.to_owned()))?;
        let changed = self.exchange(&mut state, at, rotation, (until_us, by)).await?;
        let held = state.held.get_mut(at).ok_or_else(ending)?;
        if changed {
            held.overlap_until_us = Some(until_us);
        }
        let refused = self.try_out(held).await;
        // The look that follows is by the new one.
        drop(self.around.looks.refresh(held.index));
        Ok(RotationAnswer { target: self.info(held), changed, refused })
    }

    /// Puts another credential in the place of one. Whether it is another.
    async fn exchange(
        &self,
        state: &mut State,
        at: usize,
        rotation: Rotation,
        (until_us, by): (i64, &str),
    ) -> Result<bool, TargetRefused> {
        let State { ring, held } = state;
        let held = held.get_mut(at).ok_or_else(ending)?;
        let Rotation { password, credential, user, .. } = rotation;
        let is_new = password.is_some() || credential.is_some() || user.is_some();
        if password.is_some() && credential.is_some() {
            return Err(input(
                "password: give it, or a credential that says where it is, not both",
            ));
        }
        if held.row.is_none() && is_new {
            return Err(TargetRefused::Conflict(format!(
                "target {:?} is in the configuration: change the credential where targets.password says it is, \
                 and rotate without a new one",
                held.target.name
            )));
        }
        let mut target = held.target.clone();
        target.user = user.unwrap_or(target.user);
        if let Some(reference) = credential {
            target.password = reference;
        } else if password.is_some() {
            SEALED.clone_into(&mut target.password);
        } else if target.password == SEALED {
            return Err(input("password: give the new one; this target's is sealed in the store"));
        }
        config::check_stored(&target, self.has_vault)
            .or_else(|error| if held.row.is_some() { Err(error) } else { Ok(()) })
            .map_err(TargetRefused::Input)?;
        let login = self.login(&target, password).await?;
        if held.has(&login) && target.password == held.target.password {
            return Ok(false);
        }
        if let Some(row) = &held.row {
            let new = rotated_row(ring.as_ref(), held, row, &target, &login, until_us, by)?;
            if !self.around.store.rotate_target(row, &new).await? {
                return Err(TargetRefused::Conflict("it was changed meanwhile".to_owned()));
            }
            held.row = Some(new);
        }
        let account = account(&target, login).map_err(TargetRefused::Input)?;
        held.credentials.rotate(account, until_us);
        held.target = target;
        held.trouble = None;
        tracing::info!(target = held.target.name, by, "a new credential is in force");
        Ok(true)
    }

    /// Logs in once. Why the database does not take the newest credential, if it does not.
    async fn try_out(&self, held: &Held) -> Option<String> {
        let failed = |error: &dyn std::fmt::Display| Some(error.to_string());
        let runtime =
            settings::runtime(&held.target, &self.around.common, Arc::clone(&held.credentials));
        let side = match runtime {
            Ok(runtime) => side(&runtime),
            Err(error) => return Some(error),
        };
        let tried =
            tokio::task::spawn_blocking(move || side.query(&mut None, "SELECT 1", PATIENCE));
        match tried.await {
            Ok(Err(fault)) => failed(&fault.message),
            Err(error) => failed(&error),
            Ok(Ok(_)) if held.credentials.is_proven() => None,
            Ok(Ok(_)) => Some("the database takes the credential before it only".to_owned()),
        }
    }

    pub(super) async fn exchange_key(&self) -> Result<KeyAnswer, TargetRefused> {
        let mut state = self.state.lock().await;
        sealing(&state)?;
        let State { ring, held } = &mut *state;
        let Some(ring) = ring else { return Err(ending()) };
        let next = ring.next()?;
        let mut all = Vec::new();
        for row in self.around.store.targets().await? {
            let bound = Bound { name: &row.name, settings: &row.settings };
            let anew = |sealed: &Vec<u8>| ring.reseal(&next, bound, sealed);
            let sealed = row.sealed.as_ref().map(anew).transpose()?;
            let before = row.before.map(|before| {
                let new = anew(&before.sealed)?;
                Ok::<_, VaultError>((before.sealed, new))
            });
            let before = before.transpose()?;
            if sealed.is_some() || before.is_some() {
                all.push(Resealed { name: row.name, old: row.sealed, sealed, before });
            }
        }
        if !self.around.store.reseal(&all).await? {
            let text = "the targets were changed meanwhile, and nothing was sealed anew; try again";
            return Err(TargetRefused::Conflict(text.to_owned()));
        }
        ring.follow(next)?;
        for row in self.around.store.targets().await? {
            if let Some(held) = held.iter_mut().find(|held| held.target.name == row.name) {
                held.row = Some(row);
            }
        }
        tracing::info!(key = %ring.id(), sealed = all.len(), "the master key was exchanged");
        Ok(KeyAnswer { key: ring.id().to_string(), sealed: all.len() })
    }

    /// Reads references anew for as long as the gateway runs.
    pub(super) async fn refresh_on(self: Arc<Self>) {
        loop {
            let missing = {
                let state = self.state.lock().await;
                state.held.iter().any(|held| held.credentials.why_missing().is_some())
            };
            let every = Duration::from_secs(self.rules.refresh_s);
            let pause = if missing { every.min(RETRY) } else { every };
            let _ = tokio::time::timeout(pause, self.wake.notified()).await;
            self.refresh().await;
        }
    }

    async fn refresh(&self) {
        let may_change = |held: &&Held| {
            !matches!(Reference::parse(&held.target.password), None | Some(Reference::Env(_)))
        };
        let references: Vec<(usize, String)> = {
            let state = self.state.lock().await;
            let held = state.held.iter().filter(may_change);
            held.map(|held| (held.index, held.target.password.clone())).collect()
        };
        for (index, reference) in references {
            let found = self.vault.resolve(&reference).await;
            let mut state = self.state.lock().await;
            let held = state.held.iter_mut().find(|held| held.index == index);
            if let Some(held) = held.filter(|held| held.target.password == reference) {
                self.take_over(held, found);
            }
        }
        let now_us = now_us();
        let state = self.state.lock().await;
        state.held.iter().for_each(|held| held.credentials.forget_before(now_us));
        if let Err(error) = self.around.store.forget_before(now_us).await {
            tracing::warn!(%error, "credentials before rotations are still in the store");
        }
    }

    /// Takes over what a reference leads to now.
    fn take_over(&self, held: &mut Held, found: Result<Secret, VaultError>) {
        let user = held.target.user.clone();
        let login = found.map(|password| Login { user, password });
        let account = match login {
            Ok(login) if held.has(&login) => {
                held.trouble = None;
                return;
            }
            Ok(login) => account(&held.target, login),
            Err(error) => Err(error.to_string()),
        };
        match account {
            Ok(account) => {
                let until_us = now_us().saturating_add(micros(self.rules.overlap_s));
                held.credentials.rotate(account, until_us);
                held.overlap_until_us = Some(until_us);
                held.trouble = None;
                drop(self.around.looks.refresh(held.index));
                tracing::info!(target = held.target.name, "a changed credential was taken over");
            }
            Err(error) => {
                if held.trouble.as_ref() != Some(&error) {
                    tracing::warn!(target = held.target.name, error, "a credential can't be read");
                }
                held.credentials.lost(error.clone());
                held.trouble = Some(error);
            }
        }
    }
}

/// A target's row behind a rotation. The credential before is sealed with it, so that a restart keeps the overlap; what
/// the database never took does not push out what it did.
fn rotated_row(
    ring: Option<&KeyRing>,
    held: &Held,
    row: &StoredTarget,
    target: &Target,
    login: &Login,
    until_us: i64,
    by: &str,
) -> Result<StoredTarget, TargetRefused> {
    let settings = serde_json::to_string(target).map_err(|_| input("target: no JSON"))?;
    let (old, new) = (
        Bound { name: &row.name, settings: &row.settings },
        Bound { name: &row.name, settings: &settings },
    );
    let sealed = match (target.password == SEALED, ring) {
        (true, Some(ring)) => Some(ring.seal(new, login)?),
        (true, None) => return Err(no_key()),
        (false, _) => None,
    };
    let newest = held
        .credentials
        .newest()
        .map(|account| Login { user: account.user, password: (*account.password).clone() });
    let kept = row.before.as_ref().filter(|_| !held.credentials.is_proven());
    let before = match (ring, kept) {
        (None, _) => None,
        (Some(ring), Some(kept)) => Some((ring, ring.open(old, &kept.sealed)?)),
        (Some(ring), None) => newest.map(|newest| (ring, newest)),
    };
    let before = before.filter(|_| until_us > now_us());
    let before = before.map(|(ring, login)| ring.seal(new, &login)).transpose()?;
    Ok(StoredTarget {
        name: row.name.clone(),
        sealed,
        before: before.map(|sealed| Before { sealed, until_us }),
        created_us: row.created_us,
        created_by: row.created_by.clone(),
        rotated_us: Some(now_us()),
        rotated_by: Some(by.to_owned()),
        settings,
    })
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}
