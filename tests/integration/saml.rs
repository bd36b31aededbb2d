//! People sign in by a real SAML provider, and nothing that resembles one of its answers signs anyone in.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xtask::browser::{Browser, Page};
use xtask::mariadb::free_port;
use xtask::saml::{Provider, SIGNED_ASSERTION, Service};

use crate::stand::{Stand, wait_for};

#[path = "../saml/wrapping.rs"]
mod wrapping;

/// What a browser says with the form that a provider's page sends.
const FROM_THE_PROVIDER: &str =
    "Origin: https://idp.example\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";

/// A gateway whose pages one signs in to by this provider.
struct Site {
    stand: Stand,
    provider: Provider,
    url: String,
}

impl Site {
    /// With a table for each of these names, and this in each of them.
    fn start(names: &[&str], more: &str) -> Self {
        let provider = Provider::start().unwrap();
        let port = free_port().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let mut tables = xtask::gateway::web_table(&url, "");
        for name in names {
            tables.push_str(&provider.table(name, more));
        }
        let stand = Stand::with(|options| options.more = tables);
        Self { stand, provider, url }
    }

    /// As the provider knows one of them.
    fn service(&self, name: &str, more: &str) -> Service {
        Service::new(&self.url, name, if more.is_empty() { SIGNED_ASSERTION } else { more })
    }

    fn acs(&self, name: &str) -> String {
        format!("{}/saml/{name}/acs", self.url)
    }

    /// Begins a sign-in: the browser with its cookie, and where it is sent.
    fn leave(&self, name: &str) -> (Browser, String) {
        let mut browser = Browser::default();
        let page = browser.open(&format!("{}/saml/{name}/login", self.url)).unwrap();
        let to = page.header("location").expect("a redirect").to_owned();
        (browser, to)
    }

    /// Signs in at the provider: the browser, and the answer that it is about to bring.
    fn answered(&self, name: &str) -> (Browser, String) {
        let (browser, to) = self.leave(name);
        let (_, answer) = self.provider.answer(&to, "ann").unwrap();
        (browser, answer)
    }

    fn bring(&self, browser: &mut Browser, name: &str, answer: &str) -> Page {
        let fields = [("SAMLResponse", answer)];
        browser.send(&self.acs(name), &fields, FROM_THE_PROVIDER).unwrap()
    }

    /// Brings an answer in a copy of this browser: the closed word that it is refused with.
    fn refused(&self, browser: &Browser, name: &str, answer: &str) -> String {
        let before = self.reasons();
        let mut copy = browser.clone();
        let page = self.bring(&mut copy, name, answer);
        assert!([400, 403].contains(&page.status), "{}", page.body);
        assert!(page.body.contains("Not signed in"), "{}", page.body);
        assert!(!is_in(&mut copy, &self.url));
        let mut after = wait_for("the record of a refusal", || {
            let reasons = self.reasons();
            (reasons.len() > before.len()).then_some(reasons)
        });
        assert_eq!(after.len(), before.len() + 1, "{after:?}");
        after.pop().unwrap_or_default()
    }

    /// Why sign-ins were refused, as the record says, in their order.
    fn reasons(&self) -> Vec<String> {
        let words = ["audit", "tail", "-n", "500", "--output", "json"];
        let record = self.stand.gateway.cli_ok(&words).unwrap();
        let refused = record.lines().filter(|line| line.contains("\"target\":\"web\""));
        let reason = |line: &str| {
            let (_, rest) = line.split_once("\"reason\":\"").unwrap_or_else(|| panic!("{line}"));
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        refused.map(reason).collect()
    }
}

fn decoded(answer: &str) -> String {
    String::from_utf8(STANDARD.decode(answer).unwrap()).unwrap()
}

/// Whether one sees the pages.
fn is_in(browser: &mut Browser, url: &str) -> bool {
    let page = browser.open(&format!("{url}/")).unwrap();
    page.status == 200 && page.body.contains(">ann<")
}

#[test]
fn a_person_signs_in() {
    let site = Site::start(&["corp"], "title = \"The corporation\"");
    site.provider.knows(&[site.service("corp", "")]).unwrap();
    let mut browser = Browser::default();
    let first = browser.go(&format!("{}/sessions", site.url)).unwrap();
    assert!(first.body.contains("Continue with The corporation"), "{}", first.body);
    let link = "/saml/corp/login?to=/sessions";
    assert!(first.body.contains(link), "{}", first.body);
    let page = browser.open(&format!("{}{link}", site.url)).unwrap();
    let to = page.header("location").unwrap().to_owned();
    assert!(to.starts_with(&site.provider.url) && !to.contains("RelayState"), "{to}");
    let (action, answer) = site.provider.answer(&to, "ann").unwrap();
    assert_eq!(action, site.acs("corp"));
    // A place that somebody else wrote into the answer's form is not gone to.
    let fields = [("SAMLResponse", answer.as_str()), ("RelayState", "https://evil.example/")];
    let page = browser.send(&action, &fields, FROM_THE_PROVIDER).unwrap();
    assert_eq!(page.status, 200, "{}\n{}", page.body, site.stand.gateway.log());
    assert!(page.body.contains("url=/sessions") && !page.body.contains("evil"), "{}", page.body);
    assert!(is_in(&mut browser, &site.url));
    // The answer has been used: neither this browser gets in with it again, nor another.
    assert_eq!(site.refused(&Browser::default(), "corp", &answer), "cookie");
    let record = site.stand.gateway.cli_ok(&["audit", "tail", "--output", "json"]).unwrap();
    assert!(record.contains("web.sign-in") && record.contains("saml:corp"), "{record}");
    assert!(!record.contains(&answer) && !site.stand.gateway.log().contains(&answer));
    // Who is revoked is not let in by it any more.
    site.stand.gateway.cli_ok(&["identity", "revoke", "ann"]).unwrap();
    assert!(!is_in(&mut browser, &site.url));
    let (browser, answer) = site.answered("corp");
    assert_eq!(site.refused(&browser, "corp", &answer), "revoked");
}

/// All of it in Chromium: nothing that our own idea of a browser let by.
#[test]
fn a_person_signs_in_by_a_browser_and_makes_a_password() {
    let more = "title = \"The corporation\"\ngroup_names = { analysts = \"agents\" }";
    let site = Site::start(&["corp"], more);
    site.provider.knows(&[site.service("corp", "")]).unwrap();
    let pictures = xtask::sh::root().join("target/screenshots");
    let by = "The corporation";
    let password = xtask::chromium::mint(&site.url, &pictures, "ann", by, "saml").unwrap();
    let sql = "SELECT name, ssn FROM customers WHERE id = 5";
    let rows = site.stand.sql_ok("ann", &password, sql);
    let customer = xtask::shop::customer(5);
    assert!(rows.contains(&customer.name) && !rows.contains(&customer.ssn), "{rows}");
    site.stand.gateway.cli_ok(&["identity", "revoke", "ann"]).unwrap();
    let refused = site.stand.sql_refused("ann", &password, sql);
    assert!(refused.contains("ERROR 1045"), "{refused}");
}

#[test]
fn an_answer_is_for_one_use_of_one_browser() {
    let mut site = Site::start(&["corp", "other"], "");
    site.provider.knows(&[site.service("corp", ""), site.service("other", "")]).unwrap();
    let (browser, answer) = site.answered("corp");
    let (another, _) = site.leave("corp");
    assert_eq!(site.refused(&Browser::default(), "corp", &answer), "cookie");
    assert_eq!(site.refused(&another, "corp", &answer), "request");
    // Another provider's place, with the same browser and key: its request is another.
    assert_eq!(site.refused(&browser, "other", &answer), "destination");
    let mut first = browser.clone();
    assert_eq!(site.bring(&mut first, "corp", &answer).status, 200);
    assert!(is_in(&mut first, &site.url));
    assert_eq!(site.refused(&browser, "corp", &answer), "replay");
    // Nor is a second assertion for the same request.
    let (browser, to) = site.leave("corp");
    let answers = [(); 2].map(|()| site.provider.answer(&to, "ann").unwrap().1);
    let [first, second] = answers;
    assert_eq!(site.bring(&mut browser.clone(), "corp", &first).status, 200);
    assert_eq!(site.refused(&browser, "corp", &second), "replay");
    // What this process did not begin, it does not end.
    let (browser, answer) = site.answered("corp");
    site.stand.gateway.kill().unwrap();
    site.stand.gateway.start_again().unwrap();
    assert_eq!(site.refused(&browser, "corp", &answer), "request");
}

#[test]
fn what_resembles_an_answer_signs_nobody_in() {
    let site = Site::start(&["corp"], "");
    site.provider.knows(&[site.service("corp", "")]).unwrap();
    let (browser, answer) = site.answered("corp");
    let good = decoded(&answer);
    let refused = |text: &str| site.refused(&browser, "corp", &STANDARD.encode(text));
    for (shape, text) in wrapping::of_assertions(&good, "ann", "root") {
        assert_eq!(refused(&text), "assertions", "{shape}");
    }
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let start = good.find("<ds:Signature").unwrap();
    let close = "</ds:Signature>";
    let end = good.find(close).unwrap() + close.len();
    let unsigned = format!("{}{}", &good[..start], &good[end..]);
    let mut bomb = String::from("<!DOCTYPE r [<!ENTITY e0 \"ha\">");
    for at in 1..30 {
        let below = at - 1;
        write!(bomb, "<!ENTITY e{at} \"&e{below};&e{below};\">").unwrap();
    }
    for (text, reason) in [
        (unsigned, "unsigned"),
        (with(">ann</saml:NameID>", ">root</saml:NameID>"), "proof"),
        (with(">ann</saml:NameID>", ">an<!-- -->n</saml:NameID>"), "comment"),
        (with(">ann</saml:NameID>", ">ann<!-- -->.evil.example</saml:NameID>"), "comment"),
        (with(">analysts<", ">admins<"), "proof"),
        (format!("{bomb}]>{}", with(">ann</saml:NameID>", ">&e29;</saml:NameID>")), "dtd"),
        (
            format!(
                "<!DOCTYPE r [<!ENTITY f SYSTEM \"file:///etc/passwd\">]>{}",
                with(">ann</saml:NameID>", ">&f;</saml:NameID>")
            ),
            "dtd",
        ),
        (with("status:Success", "status:Responder"), "status"),
        (with("</samlp:Status>", &format!("</samlp:Status>{}", " ".repeat(300_000))), "size"),
        ("no XML".into(), "xml"),
    ] {
        assert_eq!(refused(&text), reason);
    }
    assert_eq!(site.refused(&browser, "corp", "no base64!"), "form");
    assert_eq!(site.refused(&browser, "corp", &"A".repeat(1 << 20)), "form", "1 MB");
    // All the while, the answer was good.
    let mut browser = browser;
    assert_eq!(site.bring(&mut browser, "corp", &answer).status, 200);
    assert!(is_in(&mut browser, &site.url));
}

#[test]
fn what_a_provider_may_do_otherwise() {
    let names = ["both", "response", "sha1", "secret"];
    let site = Site::start(&names, "");
    let both = ", \"saml20.sign.response\": true, \"saml20.sign.assertion\": true";
    let response = ", \"saml20.sign.response\": true, \"saml20.sign.assertion\": false";
    let sha1 = format!(
        "{SIGNED_ASSERTION}, \"signature.algorithm\": \"http://www.w3.org/2000/09/xmldsig#rsa-sha1\""
    );
    let secret =
        format!("{SIGNED_ASSERTION}, \"assertion.encryption\": true, \"certificate\": \"idp.crt\"");
    let services = [("both", both), ("response", response), ("sha1", &sha1), ("secret", &secret)];
    let services = services.map(|(name, more)| site.service(name, more));
    site.provider.knows(&services).unwrap();
    for (name, reason) in [("response", "unsigned"), ("sha1", "algorithm"), ("secret", "encrypted")]
    {
        let (browser, answer) = site.answered(name);
        assert_eq!(site.refused(&browser, name, &answer), reason, "{name}");
    }
    for name in ["both", "response"] {
        let (browser, answer) = site.answered(name);
        for (shape, text) in wrapping::of_responses(&decoded(&answer), "ann", "root") {
            let reason = site.refused(&browser, name, &STANDARD.encode(text));
            assert_eq!(reason, "form", "{shape}: a response in a response");
        }
    }
    let (mut browser, answer) = site.answered("both");
    assert_eq!(site.bring(&mut browser, "both", &answer).status, 200);
    assert!(is_in(&mut browser, &site.url));
}

#[test]
fn a_signed_request_is_what_the_provider_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("sp.key"), folder.path().join("sp.crt"));
    let keys = xtask::sh::root().join("tests/saml/idp/keys.php");
    xtask::setup::simplesamlphp().unwrap();
    let made = std::process::Command::new("php").arg(keys).arg(folder.path()).status().unwrap();
    assert!(made.success());
    std::fs::rename(folder.path().join("idp.key"), &key).unwrap();
    std::fs::rename(folder.path().join("idp.crt"), &certificate).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, mode).unwrap();
    let more = format!(
        "key = \"{}\"\ncertificate = \"{}\"\nsubject = \"mail\"\ngroup_names = {{ approvers = \"admins\" }}",
        key.display(),
        certificate.display()
    );
    let site = Site::start(&["corp"], &more);
    let metadata = Browser::default().open(&format!("{}/saml/corp/metadata", site.url)).unwrap();
    assert_eq!(metadata.header("content-type"), Some("application/samlmetadata+xml"));
    assert!(metadata.body.contains("AuthnRequestsSigned=\"true\""), "{}", metadata.body);
    let (_, rest) = metadata.body.split_once("<ds:X509Certificate>").unwrap();
    let ours = rest.split('<').next().unwrap();
    let asks = |certificate: &str| {
        let more = format!(
            "{SIGNED_ASSERTION}, \"validate.authnrequest\": true, \"certData\": \"{certificate}\""
        );
        site.provider.knows(&[site.service("corp", &more)]).unwrap();
    };
    asks(ours);
    let (mut browser, answer) = site.answered("corp");
    assert_eq!(site.bring(&mut browser, "corp", &answer).status, 200);
    let page = browser.open(&format!("{}/", site.url)).unwrap();
    assert!(page.body.contains(">ann@example.org<"), "{}", page.body);
    let pem = std::fs::read_to_string(site.provider.certificate()).unwrap();
    let theirs: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    asks(&theirs);
    let (_, to) = site.leave("corp");
    assert!(site.provider.answer(&to, "ann").is_err(), "it does check requests");
}
