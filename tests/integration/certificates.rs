//! A client's certificate as its login: whose it is follows from its names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

use crate::stand::{Flavour, Stand, errors, on_both};

on_both!(a_certificate_is_a_login,);

pub(crate) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn ca() -> Ca {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client's pair in a folder of its own.
pub(crate) fn client(folder: &Path, name: &str, ca: &Ca, san: SanType, ended: bool) -> PathBuf {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.subject_alt_names = vec![san];
    if ended {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    fs::write(folder.join("client.crt"), certificate.pem()).unwrap();
    fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
    folder
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn stand(flavour: Flavour, folder: &Path, ca: &Ca) -> Stand {
    crate::tls::make_pair(folder);
    fs::write(folder.join("ca.crt"), ca.pem()).unwrap();
    let folder = folder.display();
    let tables = format!(
        r#"
[tls]
certificate = "{folder}/rowgate.crt"
key = "{folder}/rowgate.key"
client_ca = "{folder}/ca.crt"
client_certificates = "optional"

[[certificates]]
name = "uri:spiffe://prod.example/agent/*"
groups = ["agents"]
kind = "agent"

[[certificates]]
name = "dns:etl.prod.example"
identity = "pipeline"
groups = ["agents"]
kind = "service"
"#
    );
    Stand::on_with(flavour, |options| options.more = tables)
}

fn run(stand: &Stand, user: &str, pair: &Path) -> Output {
    let mut client = stand.client(user, "");
    client.env_remove("MYSQL_PWD");
    match stand.flavour {
        Flavour::MariaDb => client.arg("--ssl"),
        Flavour::MySql => client.arg("--ssl-mode=REQUIRED"),
    };
    client.arg(format!("--ssl-cert={}", pair.join("client.crt").display()));
    client.arg(format!("--ssl-key={}", pair.join("client.key").display()));
    client.args(["--batch", "--database=shop", "-e", "SELECT ssn FROM customers WHERE id = 5"]);
    client.output().unwrap()
}

fn a_certificate_is_a_login(flavour: Flavour) {
    let (ours, other) = (ca(), ca());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stand = stand(flavour, folder, &ours);
    let bot = client(folder, "bot", &ours, uri("spiffe://prod.example/agent/bot"), false);
    let host = client(
        folder,
        "host",
        &ours,
        SanType::DnsName("etl.prod.example".try_into().unwrap()),
        false,
    );
    for (user, pair) in [("bot", &bot), ("bot;run=7", &bot), ("pipeline", &host)] {
        let output = run(&stand, user, pair);
        assert!(output.status.success(), "{user}: {}\n{}", errors(&output), stand.gateway.log());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains(&xtask::shop::customer(5).ssn), "masked as for any agent: {text}");
    }
    let nobody = client(folder, "nobody", &ours, uri("spiffe://prod.example/person/bot"), false);
    let wrong = errors(&run(&stand, "bot", &nobody));
    assert!(wrong.contains("ERROR 1045 (28000)"), "{wrong}");
    // The same words for a name that is another's, and for one that is nobody's.
    assert_eq!(errors(&run(&stand, "bot", &host)), wrong);
    assert_eq!(errors(&run(&stand, "pipeline", &bot)), wrong.replace("'bot'", "'pipeline'"));
    // What TLS itself refuses gets no further.
    for (name, ca, ended) in [("ended", &ours, true), ("stranger", &other, false)] {
        let pair = client(folder, name, ca, uri("spiffe://prod.example/agent/bot"), ended);
        let output = run(&stand, "bot", &pair);
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}");
    }
    // Beside a certificate that is nobody's, a token still is a login.
    let token = stand.token("bot", "agents");
    let mut with_token = stand.client("bot", &token);
    with_token.arg(format!("--ssl-cert={}", nobody.join("client.crt").display()));
    with_token.arg(format!("--ssl-key={}", nobody.join("client.key").display()));
    assert!(with_token.args(["--batch", "-e", "SELECT 1"]).output().unwrap().status.success());
}

#[test]
fn a_session_ends_with_its_certificate_and_with_its_rule() {
    let ours = ca();
    let folder = tempfile::tempdir().unwrap();
    let stand = stand(Flavour::MariaDb, folder.path(), &ours);
    let bot = client(folder.path(), "bot", &ours, uri("spiffe://prod.example/agent/bot"), false);
    let mut client = stand.client("bot", "");
    client.env_remove("MYSQL_PWD").arg("--ssl");
    client.arg(format!("--ssl-cert={}", bot.join("client.crt").display()));
    client.arg(format!("--ssl-key={}", bot.join("client.key").display()));
    let running = client.args(["--batch", "-e", "SELECT SLEEP(4); SELECT 'still here'"]);
    let running = running.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let running = running.spawn().unwrap();
    crate::stand::wait_for("the statement", || {
        let sessions = stand.gateway.cli_ok(&["sessions", "list"]).unwrap();
        sessions.contains("bot").then_some(())
    });
    let file = stand.gateway.dir().join("rowgate.toml");
    let text = fs::read_to_string(&file).unwrap().replace("agent/*", "machine/*");
    fs::write(&file, text).unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
    let output = running.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SLEEP(4)\n0") && !text.contains("still here"), "{text}");
    assert!(errors(&output).contains("RG-LOGIN"), "{}", errors(&output));
    assert!(!run(&stand, "bot", &bot).status.success());
}
