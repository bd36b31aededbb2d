//! Tokens of a real OpenID provider as the password of stock clients, and in MySQL's token file.

use std::path::Path;
use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, SslOpts};
use xtask::clients::Login;
use xtask::issuer::Issuer;
use xtask::{gateway, mysql, shop};

use crate::stand::{Flavour, Stand, errors, on_both, wait_for};

on_both!(a_token_is_the_password_of_a_stock_client, it_is_the_password_of_every_driver,);

/// A gateway with TLS that takes tokens of this issuer.
fn stand(flavour: Flavour, folder: &Path, issuer: &Issuer, more: &str) -> Stand {
    crate::tls::make_pair(folder);
    let tables = format!("{}{}", gateway::tls_table(folder), issuer.table(more));
    Stand::on_with(flavour, |options| options.more = tables)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn run(stand: &Stand, user: &str, password: &str, sql: &str) -> Output {
    let mut client = stand.client(user, password);
    match stand.flavour {
        Flavour::MariaDb => client.arg("--ssl"),
        Flavour::MySql => client.arg("--ssl-mode=REQUIRED"),
    };
    client.args(["--batch", "--database=shop", "-e", sql]).output().unwrap()
}

fn rows(stand: &Stand, user: &str, password: &str, sql: &str) -> String {
    let output = run(stand, user, password, sql);
    assert!(output.status.success(), "{}\n{}", errors(&output), stand.gateway.log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const MASKED: &str = "SELECT name, ssn FROM customers WHERE id = 5";

fn is_masked(text: &str) -> bool {
    let customer = shop::customer(5);
    text.contains(&customer.name) && !text.contains(&customer.ssn)
}

fn a_token_is_the_password_of_a_stock_client(flavour: Flavour) {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(flavour, folder.path(), &issuer, "");
    let token = issuer.of_etl_bot().unwrap();
    for user in ["etl-bot", "oidc", "oidc;run=7"] {
        assert!(is_masked(&rows(&stand, user, &token, MASKED)), "{user}");
    }
    // A gateway's token of the same name still is a login, and nobody's token is not.
    let own = stand.token("etl-bot", "agents");
    assert!(is_masked(&rows(&stand, "etl-bot", &own, MASKED)));
    // Who is in no group that a policy knows may not read.
    let stranger = issuer.token("stranger", "another secret", "rowgate").unwrap();
    let refused = errors(&run(&stand, "oidc", &stranger, MASKED));
    assert!(refused.contains("ERROR 1142"), "{refused}");
    let record = stand.gateway.cli_ok(&["audit", "tail", "--output", "json"]).unwrap();
    assert!(
        record.contains("\"stranger\"")
            && record.contains("\"etl-bot\"")
            && !record.contains(&token)
    );
    assert!(!stand.gateway.log().contains(&token));
}

/// Text and prepared, inside TLS, by the token's name and by the issuer's alias.
fn it_is_the_password_of_every_driver(flavour: Flavour) {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(flavour, folder.path(), &issuer, "");
    let token = issuer.of_etl_bot().unwrap();
    let ca = folder.path().join("rowgate.crt");
    for user in ["etl-bot", "oidc"] {
        let login = Login { port: stand.gateway.port, ca: &ca, user, password: &token };
        for (driver, mut command) in [
            ("PyMySQL", login.pymysql(MASKED).unwrap()),
            ("mysql2", login.mysql2(MASKED).unwrap()),
            ("mariadb", login.mariadb(MASKED)),
        ] {
            let output = command.output().unwrap();
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(is_masked(&shown), "{driver}, {user}: {shown}{}", errors(&output));
        }
        let shown = by_mysql_async(&login);
        assert!(is_masked(&shown), "mysql_async, {user}: {shown}");
    }
    // Each of them had a connection of its own, as the token's identity.
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "200", "--output", "json"]).unwrap();
    let opened = record.lines().filter(|line| line.contains("\"session_opened\""));
    let opened = opened.filter(|line| line.contains("\"identity\":\"etl-bot\"")).count();
    assert_eq!(opened, 8, "{record}");
}

/// The rows, as text and prepared, by mysql_async.
fn by_mysql_async(login: &Login<'_>) -> String {
    let tls = SslOpts::default().with_root_certs(vec![login.ca.to_path_buf().into()]);
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(login.port)
        .user(Some(login.user))
        .pass(Some(login.password))
        .db_name(Some("shop"))
        .prefer_socket(Some(false))
        .ssl_opts(Some(tls));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = Conn::new(options).await.unwrap();
        let text: Vec<(String, String)> = connection.query(MASKED).await.unwrap();
        let binary: Vec<(String, String)> = connection.exec(MASKED, ()).await.unwrap();
        connection.disconnect().await.unwrap();
        assert_eq!(text, binary);
        format!("{text:?}")
    })
}

#[test]
fn mysqls_client_sends_the_token_in_its_file() {
    if mysql::is_left_out() {
        return;
    }
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(Flavour::MySql, folder.path(), &issuer, "");
    let (file, ca) = (folder.path().join("id_token"), folder.path().join("rowgate.crt"));
    let login = Login { port: stand.gateway.port, ca: &ca, user: "oidc", password: "" };
    let run = |token: &str, more: &[&str]| -> Output {
        std::fs::write(&file, token).unwrap();
        login.mysql(Some(&file), MASKED).unwrap().args(more).output().unwrap()
    };
    let token = issuer.of_etl_bot().unwrap();
    for more in [&[][..], &["--default-auth=authentication_openid_connect_client"]] {
        let output = run(&token, more);
        assert!(
            is_masked(&String::from_utf8_lossy(&output.stdout)),
            "{more:?}: {}",
            errors(&output)
        );
    }
    let refused = errors(&run(&token[..token.len() - 4], &[]));
    assert!(refused.contains("ERROR 1045 (28000)"), "{refused}");
}

/// `identity explain` of a real provider's token, without a word of the token itself.
#[test]
fn a_token_is_explained() {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let groups = "[[groups]]\nname = \"night-shift\"\nmembers = [\"etl-bot\"]";
    let stand = stand(Flavour::MariaDb, folder.path(), &issuer, "");
    let config = stand.gateway.dir().join("rowgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n{groups}\n")).unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
    let (file, token) = (folder.path().join("token"), issuer.of_etl_bot().unwrap());
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let path = file.display().to_string();
    let told = stand.gateway.cli_ok(&["identity", "explain", "--token", &path]).unwrap();
    for line in [
        &format!("vouched by   issuer {}", issuer.url),
        "ok      signature  by that key",
        "identity     etl-bot (agent), until ",
        "group        agents: claim groups lists \"agents\"",
        "group        night-shift (no policy names it): [[groups]] lists it as a member",
        "target       shop: governed",
        "gateway      may nothing",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let json = ["identity", "explain", "--token", &path, "--user", "oidc", "--output", "json"];
    let json = stand.gateway.cli_ok(&json).unwrap();
    assert!(json.contains("\"subject\": \"etl-bot\""), "{json}");
    std::fs::write(&file, &token[..token.len() - 4]).unwrap();
    let refused = stand.gateway.cli(&["identity", "explain", "--token", &path]).unwrap();
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains("FAILED  signature") && refused.status.code() == Some(1), "{said}");
    for text in [told, json, said, errors(&refused), stand.gateway.log()] {
        assert!(!text.contains(&token[..40]), "{text}");
    }
    let name = stand.gateway.cli_ok(&["identity", "explain", "--user", "etl-bot"]).unwrap();
    assert!(name.contains("night-shift"), "{name}");
}

#[test]
fn what_is_no_good_token_gets_the_one_error() {
    let issuer = Issuer::start().unwrap();
    let other = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(Flavour::MariaDb, folder.path(), &issuer, "");
    let es256 = "{\"alg\":\"ES256\"}";
    let sign = |header: &str, changed: &str| {
        issuer.sign(header, &issuer.claims(changed).unwrap()).unwrap()
    };
    let good = sign(es256, "");
    assert!(is_masked(&rows(&stand, "etl-bot", &good, MASKED)));
    let part = |json: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    };
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let bad = [
        (
            "alg none",
            format!("{}.{}.", part("{\"alg\":\"none\"}"), part(&issuer.claims("").unwrap())),
        ),
        (
            "other claims",
            format!(
                "{head}.{}.{signature}",
                part(&issuer.claims("\"groups\":[\"admins\"]").unwrap())
            ),
        ),
        ("an algorithm that is not listed", sign("{\"alg\":\"PS256\"}", "")),
        ("the issuer", sign(es256, "\"iss\":\"https://evil.example\"")),
        ("another issuer's", other.of_etl_bot().unwrap()),
        ("another's key", other.sign(es256, &issuer.claims("").unwrap()).unwrap()),
        ("the audience", issuer.token("etl-bot", "a secret of the agent", "other").unwrap()),
        ("expired", sign(es256, &format!("\"exp\":{}", now() - 60))),
        ("not yet", sign(es256, &format!("\"nbf\":{}", now() + 300))),
        ("jku", sign(&format!("{{\"alg\":\"ES256\",\"jku\":\"{}/jwks\"}}", other.url), "")),
        ("x5u", sign("{\"alg\":\"ES256\",\"x5u\":\"https://evil.example\"}", "")),
        ("someone else", sign(es256, "\"sub\":\"root\"")),
        ("no subject", sign(es256, "\"sub\":null")),
        ("long", sign(es256, &format!("\"more\":\"{}\"", "x".repeat(40_000)))),
    ];
    let text = |user: &str, token: &str| {
        let output = run(&stand, user, token, MASKED);
        assert!(!output.status.success());
        errors(&output)
    };
    let wrong = text("etl-bot", "rgt_wrong");
    assert!(wrong.contains("ERROR 1045 (28000)"), "{wrong}");
    for (what, token) in bad {
        assert_eq!(text("etl-bot", &token), wrong, "{what}");
    }
    // Another name than the token's, and no alias.
    assert_eq!(text("ann", &good), wrong.replace("etl-bot", "ann"));
}

#[test]
fn new_keys_cost_no_login_and_made_up_ones_no_fetches() {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(Flavour::MariaDb, folder.path(), &issuer, "");
    let old = issuer.of_etl_bot().unwrap();
    assert!(is_masked(&rows(&stand, "oidc", &old, MASKED)));
    let before = issuer.fetches().unwrap();
    // Made-up keys are asked for once in 30 s at the most; the first look at the start was one as well.
    for at in 0..5 {
        let header = format!("{{\"alg\":\"ES256\",\"kid\":\"made-up-{at}\"}}");
        let token = issuer.sign(&header, &issuer.claims("").unwrap()).unwrap();
        assert!(!run(&stand, "oidc", &token, "SELECT 1").status.success());
    }
    assert!(issuer.fetches().unwrap() <= before + 1);
    let refused = stand.gateway.metric("rowgate_logins_total{result=\"key\"").unwrap();
    assert_eq!(refused, Some(5.0));
}

#[test]
fn a_rotation_is_seen_with_the_first_new_token() {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(Flavour::MariaDb, folder.path(), &issuer, "");
    let old = issuer.of_etl_bot().unwrap();
    assert!(is_masked(&rows(&stand, "oidc", &old, MASKED)));
    // The first look at the start counts as one: the next may be 30 s after it.
    std::thread::sleep(std::time::Duration::from_secs(30));
    issuer.rotate().unwrap();
    let new = issuer.of_etl_bot().unwrap();
    assert!(is_masked(&rows(&stand, "oidc", &new, MASKED)));
    assert!(!run(&stand, "oidc", &old, MASKED).status.success(), "its key is gone");
}

#[test]
fn an_issuer_that_is_down_stops_nobody_while_its_keys_are_good() {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(Flavour::MariaDb, folder.path(), &issuer, "refresh_s = 30\nkeep_keys_s = 30");
    let token = issuer.of_etl_bot().unwrap();
    assert!(is_masked(&rows(&stand, "oidc", &token, MASKED)));
    let port = issuer.port();
    drop(issuer);
    assert!(is_masked(&rows(&stand, "oidc", &token, MASKED)));
    wait_for("the keys to be too old", || {
        (!run(&stand, "oidc", &token, MASKED).status.success()).then_some(())
    });
    // It has other keys now, and the next try gets them.
    let issuer = Issuer::start_at(port).unwrap();
    let token = issuer.of_etl_bot().unwrap();
    wait_for("the new keys", || run(&stand, "oidc", &token, MASKED).status.success().then_some(()));
}

#[test]
fn a_session_ends_with_its_token() {
    let issuer = Issuer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(Flavour::MariaDb, folder.path(), &issuer, "");
    // Clocks may differ by 30 s.
    let token = issuer
        .sign("{\"alg\":\"ES256\"}", &issuer.claims(&format!("\"exp\":{}", now() - 26)).unwrap())
        .unwrap();
    let sql = "SELECT 1; SELECT SLEEP(6); SELECT 'still here'";
    let output = run(&stand, "oidc", &token, sql);
    let said = errors(&output);
    assert!(said.contains("RG-LOGIN") && said.contains("ERROR 1045"), "{said}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("SLEEP(6)\n0") && !text.contains("still here"),
        "a running statement ends: {text}"
    );
}
