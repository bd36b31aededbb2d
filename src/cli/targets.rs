//! `rowgate target …` and `rowgate key …`. The gateway does it; where none runs, targets can be listed and removed
//! straight in its store, so that one that keeps it from starting can be taken out.

use std::path::Path;

use serde_json::{Map, Value};

use super::admin::{Admin, CallError, block_on, segment};
use super::output::{Sheet, time, time_or, visible};
use super::target_args::{ClientMode, KeyVerb, NewTarget, PasswordFrom, TargetVerb, TlsMode};
use super::tokens::{failed, open, tell_offline};
use super::{CliError, Context, password};
use crate::control::{
    self, KeyAnswer, ReasonRequest, Rotation, RotationAnswer, TargetInfo, TargetList, TargetReport,
};

pub(super) fn run(context: &Context, verb: TargetVerb) -> Result<(), CliError> {
    match verb {
        TargetVerb::Add(target) => add(context, *target),
        TargetVerb::List => list(context),
        TargetVerb::Show { name } => {
            let info: TargetInfo =
                Admin::of(context)?.read(&format!("/v1/targets/{}", segment(&name)?))?;
            context.one(&info, &shown(&info))
        }
        TargetVerb::Check { name } => check(context, &name),
        TargetVerb::Rotate { name, user, overlap, password } => {
            rotate(context, &name, user, overlap, &password)
        }
        TargetVerb::Remove { name } => remove(context, &name),
    }
}

pub(super) fn key(context: &Context, verb: KeyVerb) -> Result<(), CliError> {
    let KeyVerb::Rotate = verb;
    let answer: KeyAnswer =
        Admin::of(context)?.post("/v1/key/rotate", &ReasonRequest::default())?;
    let text = format!("{} credentials are sealed under the new key {}", answer.sealed, answer.key);
    context.one(&answer, &text)
}

fn add(context: &Context, target: NewTarget) -> Result<(), CliError> {
    let admin = Admin::of(context)?;
    let mut settings = Map::new();
    let mut put = |key: &str, value: Value| settings.insert(key.to_owned(), value);
    put("name", target.name.as_str().into());
    put("address", target.address.as_str().into());
    put("user", target.user.as_str().into());
    put("tls", tls_word(target.tls).into());
    put("client_tls", client_word(target.client_tls).into());
    if let Some(listen) = target.listen {
        put("listen", listen.to_string().into());
    }
    if let Some(socket) = &target.socket {
        put("socket", socket.display().to_string().into());
    }
    if let Some(pin) = &target.tls_pin {
        put("tls_pin", pin.as_str().into());
    }
    if let Some(path) = &target.tls_ca {
        put("tls_ca", pem("--tls-ca", path)?.into());
    }
    if let Some(path) = &target.server_public_key {
        put("server_public_key", pem("--server-public-key", path)?.into());
    }
    for (key, value) in target.set {
        put(&key, value);
    }
    let whose = format!("{} at {}", target.user, target.address);
    let (password, credential) = given(&target.password, &whose)?;
    let new = control::NewTarget { target: settings, password, credential };
    let info: TargetInfo = admin.post("/v1/targets", &new)?;
    let text = format!("{} is added on {}: {}", info.name, info.listen, visible(&state(&info)));
    context.one(&info, &text)
}

fn given(
    from: &PasswordFrom,
    whose: &str,
) -> Result<(Option<control::Password>, Option<String>), CliError> {
    if let Some(reference) = &from.credential {
        return Ok((None, Some(reference.clone())));
    }
    Ok((Some(password::read(from.password_file.as_deref(), whose)?), None))
}

fn pem(option: &str, path: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::input(format!("{option}: {}: {error}; give a PEM file", path.display()))
    })?;
    if text.trim_start().starts_with("-----BEGIN") {
        Ok(text)
    } else {
        Err(CliError::input(format!("{option}: {}: no PEM text", path.display())))
    }
}

fn list(context: &Context) -> Result<(), CliError> {
    let socket = context.socket()?;
    let list = match Admin::at(socket).read::<TargetList>("/v1/targets") {
        Err(CallError::NoGateway(_)) => listed_offline(context),
        other => other.map_err(CliError::from),
    }?;
    let header =
        ["NAME", "FROM", "LISTENS ON", "DATABASE", "USER", "TLS", "CREDENTIAL", "ROTATED", "STATE"];
    let rows = list.targets.iter().map(|target| {
        [
            target.name.clone(),
            target.origin.clone(),
            target.listen.clone(),
            target.address.clone(),
            target.user.clone(),
            text_of(&target.settings, "tls"),
            target.credential.clone(),
            time_or(target.rotated_us, "-"),
            state(target),
        ]
    });
    context.list(&list, header, rows)
}

/// What the configuration and the store say, where no gateway runs.
fn listed_offline(context: &Context) -> Result<TargetList, CliError> {
    let settings = context.settings()?;
    let rows = block_on(async {
        let store = open(&settings.store.path).await?;
        let rows = store.targets().await.map_err(|error| failed(&error));
        store.close().await;
        rows
    })?;
    let of = |target: &crate::config::Target, origin: &str| TargetInfo {
        name: target.name.clone(),
        origin: origin.to_owned(),
        listen: target.listens(),
        address: target.address.clone(),
        user: target.user.clone(),
        credential: target.password.clone(),
        detail: "no gateway runs".to_owned(),
        ..TargetInfo::default()
    };
    let mut targets: Vec<_> = settings.targets.iter().map(|target| of(target, "config")).collect();
    for row in rows {
        let target: crate::config::Target = serde_json::from_str(&row.settings)
            .map_err(|error| CliError::failed(format!("store.path: {}: {error}", row.name)))?;
        targets.push(TargetInfo {
            created_us: Some(row.created_us),
            created_by: Some(row.created_by),
            rotated_us: row.rotated_us,
            rotated_by: row.rotated_by,
            ..of(&target, "store")
        });
    }
    Ok(TargetList { targets })
}

fn rotate(
    context: &Context,
    name: &str,
    user: Option<String>,
    overlap_s: Option<u64>,
    from: &PasswordFrom,
) -> Result<(), CliError> {
    let admin = Admin::of(context)?;
    let path = format!("/v1/targets/{}", segment(name)?);
    let info: TargetInfo = admin.read(&path)?;
    // What a reference leads to is the gateway's to read anew.
    let by_reference = info.credential != crate::config::SEALED;
    let asks = !by_reference || from.password_file.is_some() || from.credential.is_some();
    let whose = format!("{} at {}", user.as_deref().unwrap_or(&info.user), info.address);
    let (password, credential) = if asks { given(from, &whose)? } else { (None, None) };
    let rotation = Rotation { password, credential, user, overlap_s };
    let answer: RotationAnswer = admin.post(&format!("{path}/rotate"), &rotation)?;
    context.one(&answer, &rotated(&answer))
}

fn rotated(answer: &RotationAnswer) -> String {
    let name = &answer.target.name;
    let until = time_or(answer.target.overlap_until_us, "now");
    match (answer.changed, &answer.refused) {
        (false, None) => {
            format!("{name}: {} leads to what is in force already", answer.target.credential)
        }
        (false, Some(why)) => format!("{name}: the credential is the same as before, and {why}"),
        (true, None) => format!(
            "{name}: the database takes the new credential; the old one is forgotten at {until}"
        ),
        (true, Some(why)) => {
            format!(
                "{name}: the new credential is kept, but {why}; the old one is tried until {until}"
            )
        }
    }
}

fn remove(context: &Context, name: &str) -> Result<(), CliError> {
    let path = format!("/v1/targets/{}/remove", segment(name)?);
    let socket = context.socket()?;
    let removed = match Admin::at(socket).post::<Value>(&path, &ReasonRequest::default()) {
        Err(CallError::NoGateway(_)) => {
            let path = context.settings()?.store.path;
            let there = block_on(async {
                let store = open(&path).await?;
                let there = store.remove_target(name).await.map_err(|error| failed(&error));
                store.close().await;
                there
            })?;
            if !there {
                return Err(CliError::failed(format!("the store has no target {name:?}")));
            }
            tell_offline(&path);
            serde_json::json!({ "removed": name })
        }
        other => other.map_err(CliError::from)?,
    };
    context.one(&removed, &format!("{name} is removed; its sessions end after their statement"))
}

fn check(context: &Context, name: &str) -> Result<(), CliError> {
    let path = format!("/v1/targets/{}/check", segment(name)?);
    let report: TargetReport = Admin::of(context)?.post(&path, &ReasonRequest::default())?;
    context.one(&report, &reported(&report))?;
    match &report.error {
        Some(error) => Err(CliError::failed(format!("{name}: {error}"))),
        None if report.connected => Ok(()),
        None => Err(CliError::failed(format!("{name}: no connection"))),
    }
}

fn reported(report: &TargetReport) -> String {
    let mut sheet = Sheet::default();
    sheet.line("target", &report.name);
    if !report.connected {
        sheet.line("connection", report.error.as_deref().unwrap_or("none"));
        return sheet.text();
    }
    sheet.line("server", &format!("{} {}", report.flavour, report.version));
    let tls = &report.tls;
    let protected = if tls.version.is_empty() {
        tls.verified.clone()
    } else {
        format!("{}, {}, {}", tls.version, tls.cipher, tls.verified)
    };
    sheet.line("TLS", &protected);
    if !tls.fingerprint.is_empty() {
        sheet.line("", &tls.fingerprint);
    }
    sheet.line("account", &report.account);
    let blocks = |sheet: &mut Sheet, name: &str, lines: &[String]| {
        if !lines.is_empty() {
            sheet.block(name, &lines.join("\n"));
        }
    };
    blocks(&mut sheet, "grants", &report.grants);
    let excess =
        |excess: &control::Excess| format!("{} on {}: {}", excess.privilege, excess.on, excess.why);
    let too_much: Vec<String> = report.too_much.iter().map(excess).collect();
    blocks(&mut sheet, "too much", &too_much);
    if too_much.is_empty() {
        sheet.line("too much", "nothing");
    }
    blocks(&mut sheet, "lacks", &report.lacks);
    let reach = |reach: &control::Reach| format!("{} ({})", reach.name, reach.columns.join(", "));
    blocks(&mut sheet, "labelled tables", &report.labelled.iter().map(reach).collect::<Vec<_>>());
    blocks(
        &mut sheet,
        "views that reach labelled columns",
        &report.views.iter().map(reach).collect::<Vec<_>>(),
    );
    blocks(&mut sheet, "routines that reach labelled columns", &report.routines);
    blocks(&mut sheet, "a second wall (grants without labelled columns)", &report.second_wall);
    blocks(&mut sheet, "notes", &report.notes);
    sheet.text()
}

fn shown(info: &TargetInfo) -> String {
    let mut sheet = Sheet::default();
    sheet.line("name", &info.name);
    sheet.line("from", &info.origin);
    sheet.line("state", &state(info));
    sheet.line("listens on", &info.listen);
    sheet.line("database", &info.address);
    sheet.line("user", &info.user);
    let key = info.key.as_ref().map(|key| format!(" under key {key}")).unwrap_or_default();
    sheet.line("credential", &format!("{}{key}", info.credential));
    let taken = if info.taken { "yes" } else { "not yet" };
    sheet.line("taken", &format!("{taken} (by the database)"));
    if let Some(until_us) = info.overlap_until_us {
        sheet.line("overlap", &format!("the one before is tried until {}", time(until_us)));
    }
    for (what, at_us, by) in [
        ("added", info.created_us, &info.created_by),
        ("rotated", info.rotated_us, &info.rotated_by),
    ] {
        if let (Some(at_us), Some(by)) = (at_us, by) {
            sheet.line(what, &format!("{} by {by}", time(at_us)));
        }
    }
    let above = ["name", "listen", "address", "user", "socket"];
    for (key, value) in info.settings.iter().filter(|(key, _)| !above.contains(&key.as_str())) {
        match value.as_str() {
            Some(text) if text.contains('\n') => sheet.block(key, text),
            Some(text) => sheet.line(key, text),
            None => sheet.line(key, &value.to_string()),
        }
    }
    sheet.text()
}

/// Up or down; why it is down, or what else is wrong.
fn state(target: &TargetInfo) -> String {
    match (target.up, target.detail.as_str()) {
        (true, "") => "up".to_owned(),
        (true, detail) => format!("up, but {detail}"),
        (false, detail) => format!("down: {detail}"),
    }
}

fn text_of(settings: &Map<String, Value>, key: &str) -> String {
    settings.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn tls_word(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::VerifyIdentity => "verify-identity",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::Pin => "pin",
        TlsMode::Off => "off",
    }
}

fn client_word(mode: ClientMode) -> &'static str {
    match mode {
        ClientMode::Auto => "auto",
        ClientMode::Required => "required",
        ClientMode::Optional => "optional",
    }
}
