//! `rowgate identity explain`. It asks the running gateway: that one has the issuers' keys, and decides by what is live.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::super::admin::Admin;
use super::super::output::{Sheet, time, visible};
use super::super::{CliError, Context};
use crate::control::{ExplainAnswer, ExplainRequest, ExplainedWay};

/// Longest token that is read: longer ones are none, and the API takes no longer body.
const MAX_BYTES: usize = 32 << 10;

pub(super) fn run(
    context: &Context,
    token: Option<&Path>,
    user: Option<String>,
) -> Result<(), CliError> {
    let token = token.map(read).transpose()?;
    let whose = user.clone().unwrap_or_default();
    let mut request = ExplainRequest { token: token.as_deref().cloned(), user };
    let answer = Admin::of(context)?.post("/v1/identities/explain", &request);
    zeroize::Zeroize::zeroize(&mut request.token);
    let answer: ExplainAnswer = answer?;
    let mut sheet = Sheet::default();
    for way in &answer.ways {
        describe(&mut sheet, way);
    }
    if answer.ways.is_empty() {
        sheet.line("nobody", &format!("nothing vouches for {}", visible(&whose)));
    }
    context.one(&answer, &sheet.text())?;
    match answer.ways.as_slice() {
        [only] if only.explanation.refused.is_some() => {
            Err(CliError::failed("that lets nobody in"))
        }
        _ => Ok(()),
    }
}

/// What is in the file, but for the blanks around it.
fn read(file: &Path) -> Result<Zeroizing<String>, CliError> {
    let complain = |what: &dyn std::fmt::Display| {
        CliError::input(format!("--token: {}: {what}", file.display()))
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let limit = u64::try_from(MAX_BYTES + 1).unwrap_or(u64::MAX);
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| complain(&error))?;
    if bytes.len() > MAX_BYTES {
        return Err(complain(&format!("longer than {MAX_BYTES} bytes, so no token")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| complain(&"not text, so no token"))?;
    match text.trim() {
        "" => Err(complain(&"empty; write the token there")),
        token => Ok(Zeroizing::new(token.to_owned())),
    }
}

fn describe(sheet: &mut Sheet, way: &ExplainedWay) {
    let found = &way.explanation;
    sheet.gap();
    sheet.line("vouched by", &found.by);
    for check in &found.checks {
        let mark = if check.passed { "ok" } else { "FAILED" };
        sheet.line("", &format!("{mark:<7} {:<10} {}", check.of, check.must));
    }
    match &found.refused {
        Some(word) => sheet.line("refused", &format!("as {word} in the record; no client is told")),
        None => sheet.line("identity", &identity(way)),
    }
    for origin in &found.groups {
        let unnamed = way.unnamed_groups.contains(&origin.group);
        let unnamed = if unnamed { " (no policy names it)" } else { "" };
        let from = origin.from.join("; ");
        sheet.line("group", &format!("{}{unnamed}: {from}", origin.group));
    }
    if !found.left_out.is_empty() {
        sheet.line("left out", &format!("no rule takes {}", found.left_out.join(", ")));
    }
    for (key, value) in &found.attributes {
        sheet.line("attribute", &format!("{key}={value}"));
    }
    if !found.only_networks.is_empty() {
        sheet.line("only from", &found.only_networks.join(", "));
    }
    for target in &way.targets {
        let rule = target.rule.as_ref().map_or(String::new(), |rule| format!(" by {rule}"));
        sheet.line("target", &format!("{}: {}{rule}", target.target, target.access));
    }
    if found.refused.is_none() {
        let may = if way.may.is_empty() { "nothing".to_owned() } else { way.may.join(", ") };
        sheet.line("gateway", &format!("may {may}"));
    }
}

fn identity(way: &ExplainedWay) -> String {
    let found = &way.explanation;
    let kind = found.kind.map_or("", crate::identity::PrincipalKind::as_str);
    let until = found.expires_us.map_or(String::new(), |end| format!(", until {}", time(end)));
    format!("{} ({kind}){until}", found.subject.as_deref().unwrap_or_default())
}
