//! The documentation's commands are true: each `rowgate` verb and `cargo xtask` chore that a page shows exists with
//! those options, and the README's own steps lead from a checkout to masked rows.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use xtask::gateway::Gateway;
use xtask::{mariadb, sh};

use crate::stand::{Stand, binary, errors, shop_database};

/// The commands of a page: what follows `$ ` in its console blocks, without comments.
fn commands(page: &str) -> Vec<String> {
    let text = fs::read_to_string(sh::root().join(page)).unwrap();
    let blocks = text.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    let command = |line: &str| line.split(" #").next().unwrap_or(line).trim().to_owned();
    lines.map(command).collect()
}

fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for folder in ["docs", "docs/runbook"] {
        let entries = fs::read_dir(sh::root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_page = |name: &String| name.split('.').next_back() == Some("md");
        pages.extend(names.filter(is_page).map(|name| format!("{folder}/{name}")));
    }
    pages.extend(["README.md", "CONTRIBUTING.md"].map(str::to_owned));
    pages
}

#[test]
fn every_command_of_every_page_exists() {
    let chores = fs::read_to_string(sh::root().join("xtask/src/main.rs")).unwrap();
    let mut seen = 0;
    for page in pages() {
        for line in commands(&page).iter().flat_map(|line| line.split(" && ")) {
            let words: Vec<&str> = line.trim_end_matches(" &").split_whitespace().collect();
            match words.as_slice() {
                [program, rest @ ..] if program.ends_with("rowgate") => {
                    // What follows a lone `--` is for another program.
                    let rest = rest.split(|word| *word == "--").next().unwrap_or_default();
                    // Through a shell, which knows quotes.
                    let line = format!("{} {} --help", binary().display(), rest.join(" "));
                    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
                    assert!(output.status.success(), "{page}: {line}\n{}", errors(&output));
                    seen += 1;
                }
                ["cargo", "xtask", chore, ..] => {
                    assert!(chores.contains(&format!("\n  {chore}")), "{page}: {line}");
                    seen += 1;
                }
                _ => {}
            }
        }
    }
    assert!(seen > 15, "the pages' commands were not found: {seen}");
}

/// What a client may be told, an agent can look up.
#[test]
fn every_error_is_in_the_agents_guide() {
    let codes = |text: &str| -> BTreeSet<String> {
        let after = text.split("RG-").skip(1);
        let word = |rest: &str| rest.chars().take_while(char::is_ascii_uppercase).collect();
        after.map(word).filter(|code: &String| !code.is_empty()).collect()
    };
    let mut folders = vec![sh::root().join("src")];
    let mut told = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                told.extend(codes(&fs::read_to_string(entry).unwrap()));
            }
        }
    }
    assert!(told.len() > 15, "the errors were not found: {told:?}");
    let guide = codes(&fs::read_to_string(sh::root().join("docs/agents.md")).unwrap());
    assert_eq!(told.difference(&guide).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_readmes_steps_lead_to_masked_rows() {
    let steps = commands("README.md");
    let at = |part: &str| steps.iter().position(|step| step.contains(part)).expect(part);
    let order =
        ["docs/quickstart.toml", "rowgate check", "rowgate serve", "token create", "mariadb"];
    assert!(order.windows(2).all(|two| at(two[0]) < at(two[1])), "{steps:?}");

    let folder = tempfile::tempdir().unwrap();
    let database = shop_database(folder.path());
    let (port, admin_port) = (mariadb::free_port().unwrap(), mariadb::free_port().unwrap());
    let root = sh::root();
    let root = root.display();
    let config = fs::read_to_string(sh::root().join("docs/quickstart.toml")).unwrap();
    // What a user changes, and what lies beside the file in a checkout.
    let config = config
        .replace("127.0.0.1:3306", &format!("127.0.0.1:{}", database.port()))
        .replace("127.0.0.1:3307", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:9307", &format!("127.0.0.1:{admin_port}"))
        .replace("\"policies/", &format!("\"{root}/policies/"))
        .replace("\"target/", &format!("\"{root}/target/"))
        .replace("env:SHOP_PASSWORD", "file:password");
    let password = folder.path().join("password");
    fs::write(&password, mariadb::SERVICE_PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.path().join("rowgate.toml"), config).unwrap();
    // The gateway's verbs run as the README has them, with the configuration named.
    let words = |part: &str| -> Vec<String> {
        let (_, verb) = steps[at(part)].split_once("rowgate ").unwrap();
        verb.trim_end_matches(" &").split_whitespace().map(str::to_owned).collect()
    };
    let mut gateway = Gateway::start_unready(&binary(), folder.path(), port, admin_port).unwrap();
    let run = |gateway: &Gateway, part: &str| {
        let words = words(part);
        gateway.cli_ok(&words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
    };
    run(&gateway, "rowgate check");
    gateway.wait_until("/readyz", Duration::from_mins(1)).unwrap();
    let said = run(&gateway, "token create");
    let token = said.split_whitespace().find(|word| word.starts_with("rgt_")).expect(&said);
    let mut client = gateway.client("support-bot", token);
    let client = client.args(["-N", "shop", "-e", "SELECT email FROM customers LIMIT 1"]);
    let output = client.output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let email = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(email.contains('*') || email.contains("redacted"), "not masked: {email}");
}

/// The blocks of a page in one language, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(sh::root().join(page)).unwrap();
    let start = format!("```{language}\n");
    let blocks = text.split(&start).skip(1).filter_map(|block| block.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_guides_plugin_builds_in_a_folder_of_its_own_and_masks() {
    const PAGE: &str = "docs/plugins.md";
    let own = tempfile::tempdir().unwrap();
    let root = sh::root().display().to_string();
    let toml = blocks(PAGE, "toml");
    fs::create_dir(own.path().join("src")).unwrap();
    fs::write(own.path().join("Cargo.toml"), toml[0].replace("/path/to/rowgate", &root)).unwrap();
    fs::write(own.path().join("src/lib.rs"), &blocks(PAGE, "rust")[0]).unwrap();
    // the same versions as here, so that no registry is asked
    fs::copy(sh::root().join("Cargo.lock"), own.path().join("Cargo.lock")).unwrap();
    let cargo = |words: &[&str], folder: &std::path::Path| {
        let mut cargo = Command::new("cargo");
        cargo.args(words).current_dir(folder).env("CARGO_TARGET_DIR", sh::target_dir().join("own"));
        cargo.output().unwrap()
    };
    let output = cargo(&["test"], own.path());
    assert!(output.status.success(), "{}", errors(&output));
    let folder = own.path().to_str().unwrap();
    let mut build = Command::new("cargo");
    let output = build.args(["xtask", "plugins", folder]).current_dir(sh::root()).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let component = own.path().join("mask-initials.wasm");

    let stand = Stand::with(|options| {
        let path = component.display().to_string();
        options
            .plugins
            .push_str(&toml[1].replace("/path/to/mask-initials/mask-initials.wasm", &path));
        options.labels.push_str("[[labels]]\nname = \"name\"\ncolumns = [\"*.customers.name\"]\n");
    });
    let inspected = stand.gateway.cli_ok(&["plugin", "inspect", component.to_str().unwrap()]);
    assert!(inspected.unwrap().contains("mask-initials 1.0.0"), "its own version, not the SDK's");
    let policy = stand.gateway.dir().join("policy.cedar");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, format!("{text}\n{}", blocks(PAGE, "cedar")[0])).unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
    let token = stand.token("bot", "agents");
    let name = stand.sql_ok("bot", &token, "SELECT name FROM customers WHERE id = 1");
    let wanted: String = xtask::shop::customer(1).name.split(' ').map(|w| &w[..1]).collect();
    assert_eq!(name, format!("name\n{wanted}\n"));
}
