//! People at the gateway's pages, in headless Chromium: `tests/browser/pages.mjs`, which says what each step does.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::setup;

/// Walks through the pages of this site as the script (JSON) says; what its steps printed. Screenshots go to `pictures`. An error
/// is all that was wrong on the way.
pub fn walk(site: &str, pictures: &Path, script: &str) -> Result<String> {
    let folder = setup::browser()?;
    std::fs::create_dir_all(pictures)?;
    let mut node = Command::new("node");
    node.arg("pages.mjs").arg(site).arg(pictures).current_dir(folder);
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut node = node.spawn().context("starting node")?;
    node.stdin.take().context("no stdin")?.write_all(script.as_bytes())?;
    let output = node.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Signs in by the provider that the sign-in page calls so, and makes a password on *My access*: that. With pictures of both
/// pages, named by `picture`.
pub fn mint(site: &str, pictures: &Path, who: &str, by: &str, picture: &str) -> Result<String> {
    let script = format!(
        r#"[{{"as": "{who}", "by": "{by}", "script": [
            ["says", "{by} from"], ["picture", "{picture}-access"],
            ["click", "Make a password"], ["says", "A password for {who}"], ["picture", "{picture}-password"],
            ["print", ".secret pre code"]
        ]}}]"#
    );
    Ok(walk(site, pictures, &script)?.trim().to_owned())
}

/// Signs in by OIDC, and agrees to a device's code, which `rowgate login` showed.
pub fn agree(site: &str, pictures: &Path, who: &str, code: &str) -> Result<()> {
    let script = format!(
        r#"[{{"as": "{who}", "script": [
            ["open", "/device?code={code}"], ["says", "{code}"], ["says", "laptop"], ["picture", "device"],
            ["click", "Yes, connect it"], ["says", "The device has what it needs"]
        ]}}]"#
    );
    walk(site, pictures, &script).map(drop)
}
