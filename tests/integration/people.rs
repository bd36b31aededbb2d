//! People at a terminal: they sign in by a device's code, connect by the stock client, and sign out.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use xtask::terminal::{Login, Terminal};

use crate::browser::Browser;
use crate::stand::{errors, wait_for};
use crate::web::{Site, csrf};

/// The terminal of a person with this home.
fn terminal(home: &Path) -> Terminal {
    Terminal::new(&crate::stand::binary(), home)
}

fn run(home: &Path, words: &[&str]) -> Output {
    terminal(home).run(words).unwrap()
}

/// Begins to sign in.
fn begin(site: &Site, home: &Path) -> Login {
    let login = terminal(home).begin(&site.url).unwrap();
    let place = site.at(&format!("/device?code={}", login.code()));
    assert!(login.said[0].contains(&place), "{:?}", login.said);
    login
}

fn refuse(site: &Site, browser: &mut Browser, code: &str) {
    let page = browser.get(&site.at(&format!("/device?code={code}"))).body;
    assert!(page.contains("laptop") && page.contains("127.0.0.1"), "{page}");
    let token = csrf(browser, site);
    let form = [("csrf", token.as_str()), ("code", code), ("verdict", "refuse")];
    assert!(browser.post(&site.at("/device"), &form).status.is_success());
}

#[test]
fn someone_signs_in_connects_and_signs_out() {
    let site = Site::start();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let nobody = run(home, &["connect", "shop"]);
    assert!(errors(&nobody).contains("sign in with `rowgate login"), "{}", errors(&nobody));
    let login = begin(&site, home);
    let pictures = xtask::sh::root().join("target/screenshots");
    xtask::chromium::agree(&site.url, &pictures, "dee", &login.code()).unwrap();
    let said = login.end().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("Signed in as dee until") && said.contains("rowgate connect shop"),
        "{said}"
    );
    let kept = fs::read_to_string(home.join("rowgate/login.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let password = kept["session"]["password"].as_str().unwrap().to_owned();
    assert!(!said.contains(&password));

    let sql = "SELECT name, ssn FROM shop.customers WHERE id = 5";
    let customer = xtask::shop::customer(5);
    let rows = run(home, &["connect", "shop", "--", "--batch", "--execute", sql]);
    let shown = String::from_utf8_lossy(&rows.stdout).into_owned();
    assert!(
        shown.contains(&customer.name) && !shown.contains(&customer.ssn),
        "{shown}{}",
        errors(&rows)
    );
    let failed =
        run(home, &["connect", "shop", "--", "--execute", "SELECT nowhere FROM shop.orders"]);
    assert_eq!(failed.status.code(), Some(1), "the client's own: {}", errors(&failed));
    let missing = run(home, &["connect", "crm"]);
    assert!(errors(&missing).contains("this sign-in opens shop"), "{}", errors(&missing));

    // It is the client, and nothing that others see of it is secret.
    let mut runs =
        terminal(home).rowgate(&["connect", "shop", "--", "--execute", "SELECT SLEEP(5)"]);
    let mut runs = runs.stdout(Stdio::null()).spawn().unwrap();
    let of = |what: &str| fs::read(format!("/proc/{}/{what}", runs.id())).unwrap_or_default();
    let seen = wait_for("the client", || {
        let line = String::from_utf8_lossy(&of("cmdline")).into_owned();
        line.contains("--defaults-extra-file").then_some(line)
    });
    assert!(!seen.contains(&password), "{seen}");
    assert!(!String::from_utf8_lossy(&of("environ")).contains(&password));
    runs.kill().unwrap();
    runs.wait().unwrap();

    let out = run(home, &["logout"]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("Signed out"), "{}", errors(&out));
    assert!(!home.join("rowgate/login.json").exists());
    site.stand.sql_refused("dee", &password, "SELECT 1");
    assert!(!run(home, &["connect", "shop"]).status.success());
}

#[test]
fn whoever_says_no_lets_nobody_in() {
    let site = Site::start();
    let folder = tempfile::tempdir().unwrap();
    let mut dee = site.signed_in("dee");
    let login = begin(&site, folder.path());
    refuse(&site, &mut dee, &login.code());
    let said = login.end().unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(!folder.path().join("rowgate/login.json").exists());
    for (url, why) in [
        ("http://rowgate.example.com", "use https"),
        ("not a url", "--gateway"),
        (&format!("http://127.0.0.1:{}", site.stand.gateway.port), "127.0.0.1"),
    ] {
        let said = run(folder.path(), &["login", "--gateway", url]);
        assert!(errors(&said).contains(why), "{url}: {}", errors(&said));
    }
}
