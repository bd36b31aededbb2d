//! The pages, with a real OpenID provider: who gets in, what they see and may do, and what attacks come to.

use std::path::Path;

use reqwest::{Method, StatusCode, Url};
use xtask::gateway::Options;
use xtask::issuer::Issuer;
use xtask::mariadb;

use crate::browser::{Browser, Page};
use crate::stand::{Stand, wait_for};

/// A gateway with pages.
pub(crate) struct Site {
    pub(crate) stand: Stand,
    issuer: Issuer,
    pub(crate) url: String,
    _folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::with("http", |_| String::new())
    }

    /// `more` is the rest of `[web]`.
    fn with(scheme: &str, more: impl FnOnce(&Path) -> String) -> Self {
        Self::changed(scheme, more, |_| {})
    }

    /// The same, with other options of the gateway.
    pub(crate) fn changed(
        scheme: &str,
        more: impl FnOnce(&Path) -> String,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let issuer = Issuer::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let port = mariadb::free_port().unwrap();
        let url = format!("{scheme}://127.0.0.1:{port}");
        let table = issuer.pages_table(&url, &folder.path().join("secret"), "").unwrap();
        let web = xtask::gateway::web_table(&url, &more(folder.path())) + &table;
        let stand = Stand::with(|options| {
            options.more = web;
            options.wait_s = 30;
            change(options);
        });
        Self { stand, issuer, url, _folder: folder }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A browser in which this person is signed in.
    pub(crate) fn signed_in(&self, name: &str) -> Browser {
        let mut browser = Browser::new();
        let page = browser.sign_in(&self.url, name);
        assert_eq!(page.status, 200, "{}\n{}", page.body, self.stand.gateway.log());
        assert!(page.body.contains("<h1>My access</h1>"), "{}", page.body);
        browser
    }

    fn record(&self) -> String {
        self.stand.gateway.cli_ok(&["audit", "tail", "-n", "500", "--output", "json"]).unwrap()
    }
}

pub(crate) fn csrf(browser: &mut Browser, site: &Site) -> String {
    browser.get(&site.at("/")).field("csrf")
}

#[test]
fn someone_signs_in_looks_around_and_signs_out() {
    let site = Site::start();
    let mut browser = Browser::new();
    let page = browser.get(&site.at("/tokens"));
    assert_eq!(
        (page.status, page.header("location")),
        (StatusCode::SEE_OTHER, "/sign-in?to=/tokens")
    );
    let page = browser.follow(page);
    assert!(page.body.contains("Continue with Example Corp"), "{}", page.body);
    let page = browser.sign_in(&site.url, "ann");
    assert_eq!(page.url, site.at("/"));
    for wanted in
        ["<h1>My access</h1>", ">ann<", "admins", "<h3>shop ", "--user=ann", "Example Corp from"]
    {
        assert!(page.body.contains(wanted), "{wanted}: {}", page.body);
    }
    for (path, title) in [
        ("/approvals", "Approvals"),
        ("/sessions", "Sessions"),
        ("/record", "Record"),
        ("/targets", "Targets"),
        ("/identities", "Identities"),
        ("/tokens", "Tokens"),
    ] {
        let page = browser.get(&site.at(path));
        assert!(page.status == 200 && page.body.contains(&format!("<h1>{title}</h1>")), "{path}");
    }
    let cookies = browser.cookies.clone();
    let token = csrf(&mut browser, &site);
    let page = browser.post(&site.at("/sign-out"), &[("csrf", &token)]);
    assert_eq!(browser.follow(page).url, site.at("/signed-out"));
    // Whoever has a copy of the cookie is out, too.
    browser.cookies = cookies;
    assert_eq!(browser.get(&site.at("/")).header("location"), "/sign-in");
    let record = site.record();
    for wanted in ["\"web.sign-in\"", "oidc:idp from 127.0.0.1", "\"web.sign-out\""] {
        assert!(record.contains(wanted), "{wanted}: {record}");
    }
}

#[test]
fn everyone_sees_and_does_what_policy_says() {
    let site = Site::start();
    let mut dee = site.signed_in("dee");
    let first = dee.get(&site.at("/")).body;
    assert!(!first.contains("href=\"/tokens\"") && first.contains("<h3>shop "));
    for path in ["/record", "/record/1", "/targets", "/identities", "/tokens"] {
        assert_eq!(dee.get(&site.at(path)).status, 403, "{path}");
    }
    let mut cyd = site.signed_in("cyd");
    assert!(cyd.get(&site.at("/")).body.contains("No database is open to you yet"));
    assert_eq!(cyd.get(&site.at("/tokens")).status, 200);
    // To see is not to do, also for who knows the forms.
    for (browser, name) in [(&mut dee, "dee"), (&mut cyd, "cyd")] {
        let token = csrf(browser, &site);
        let form = [("csrf", token.as_str()), ("identity", "x"), ("kind", "agent")];
        for path in [
            "/tokens",
            "/tokens/tok_1/rotate",
            "/tokens/tok_1/revoke",
            "/identities/revoke",
            "/identities/restore",
        ] {
            let page = browser.post(&site.at(path), &form);
            assert_eq!(page.status, 403, "{name} {path}: {}", page.body);
        }
    }
    assert!(!site.record().contains("token."));
    // Groups by which nobody signs in.
    let policy = site.stand.gateway.dir().join("policy.cedar");
    let text = std::fs::read_to_string(&policy).unwrap();
    let closed = text
        + "\n@id(\"out\") forbid (principal in Group::\"auditors\", action == Action::\"sign-in\", resource);\n";
    std::fs::write(&policy, closed).unwrap();
    site.stand.gateway.cli_ok(&["reload"]).unwrap();
    assert_eq!(cyd.get(&site.at("/tokens")).status, 303, "a session ends with its permit");
    let page = Browser::new().sign_in(&site.url, "cyd");
    assert!(page.status == 403 && page.body.contains("no policy lets you"), "{}", page.body);
}

#[test]
fn an_admin_makes_replaces_and_revokes_a_token() {
    let site = Site::start();
    let mut ann = site.signed_in("ann");
    let token = csrf(&mut ann, &site);
    let form = [
        ("csrf", token.as_str()),
        ("identity", "bot"),
        ("groups", "agents"),
        ("kind", "agent"),
        ("days", "7"),
        ("target", "shop"),
        ("networks", "127.0.0.0/8"),
    ];
    let page = ann.post(&site.at("/tokens"), &form);
    assert_eq!(page.status, 200, "{}", page.body);
    let made = secret(&page);
    let rows = site.stand.sql_ok("bot", &made, "SELECT name, ssn FROM customers WHERE id = 5");
    assert!(!rows.contains(&xtask::shop::customer(5).ssn));
    let list = ann.get(&site.at("/tokens")).body;
    assert!(!list.contains(&made) && list.contains(">bot<"));
    let id = list.split("tok_").nth(1).unwrap().split('<').next().unwrap();
    let page = ann.post(&site.at(&format!("/tokens/tok_{id}/rotate")), &[("csrf", &token)]);
    let new = secret(&page);
    assert_ne!(new, made);
    let page = ann.post(&site.at(&format!("/tokens/tok_{id}/revoke")), &[("csrf", &token)]);
    assert!(ann.follow(page).body.contains("The token is revoked"));
    site.stand.sql_refused("bot", &made, "SELECT 1");
    site.stand.sql_ok("bot", &new, "SELECT 1");
    // Its identity is out, and so is the admin's own.
    let form = [("csrf", token.as_str()), ("identity", "bot"), ("reason", "a leak")];
    assert_eq!(ann.post(&site.at("/identities/revoke"), &form).status, 303);
    site.stand.sql_refused("bot", &new, "SELECT 1");
    assert_eq!(ann.post(&site.at("/identities/restore"), &form).status, 303);
    site.stand.sql_ok("bot", &new, "SELECT 1");
    let record = site.record();
    for wanted in [
        "token.create",
        "token.rotate",
        "token.revoke",
        "identity.revoke",
        "\"by\":\"ann\"",
        "bot: a leak",
    ] {
        assert!(record.contains(wanted), "{wanted}: {record}");
    }
    assert!(!record.contains(&made) && !site.stand.gateway.log().contains(&made));
    site.stand.gateway.cli_ok(&["identity", "revoke", "ann"]).unwrap();
    assert_eq!(ann.get(&site.at("/tokens")).status, 303, "a revoked identity's pages are closed");
    let page = Browser::new().sign_in(&site.url, "ann");
    assert_eq!(page.status, 403, "{}", page.body);
}

fn secret(page: &Page) -> String {
    let (_, rest) = page.body.split_once("rgt_").unwrap_or_else(|| panic!("{}", page.body));
    format!("rgt_{}", rest.split('<').next().unwrap())
}

#[test]
fn a_held_statement_is_decided_on_its_page() {
    let site = Site::start();
    let token = site.stand.token("bot", "agents");
    // Text that would be markup, were it not escaped.
    let held = "CREATE TABLE `<script>alert(1)</script>` (id INT)";
    let client = site.stand.spawn_sql("bot", &token, held);
    let id = site.stand.pending();
    let mut ben = site.signed_in("ben");
    let list = ben.get(&site.at("/approvals")).body;
    assert!(list.contains("bot</") || list.contains("bot wants"), "{list}");
    assert!(list.contains("&lt;script&gt;") && !list.contains("<script>alert"), "{list}");
    let place = format!("/approvals/{id}");
    let page = ben.get(&site.at(&place));
    assert!(page.body.contains("&lt;script&gt;alert(1)") && !page.body.contains("<script>alert"));
    // Who is not asked neither sees nor decides it.
    let mut dee = site.signed_in("dee");
    assert_eq!(dee.get(&site.at(&place)).status, 404);
    let decide = site.at(&format!("{place}/decide"));
    let form = |token: &str| {
        [
            ("csrf", token.to_owned()),
            ("verdict", "approve".into()),
            ("reason", "<b>fine</b>".into()),
        ]
    };
    let send = |browser: &mut Browser, token: &str| {
        let form = form(token);
        let form: Vec<_> = form.iter().map(|(key, value)| (*key, value.as_str())).collect();
        browser.post(&decide, &form)
    };
    let of_dee = csrf(&mut dee, &site);
    assert_eq!(send(&mut dee, &of_dee).status, 404);
    let mut cyd = site.signed_in("cyd");
    let of_cyd = csrf(&mut cyd, &site);
    assert_eq!(send(&mut cyd, &of_cyd).status, 403, "to audit is not to approve");
    // Another session's form counts for nothing.
    assert_eq!(send(&mut ben, &of_dee).status, 403);
    let of_ben = csrf(&mut ben, &site);
    let page = send(&mut ben, &of_ben);
    assert!(ben.follow(page).body.contains("Your approval counts"));
    assert!(client.wait_with_output().unwrap().status.success());
    let page = ben.get(&site.at(&place)).body;
    assert!(page.contains("&lt;b&gt;fine") && !page.contains("<b>fine"), "{page}");
    assert!(page.contains("ran"));
    assert_eq!(send(&mut ben, &of_ben).status, 409, "once");
}

#[test]
fn sessions_are_seen_and_ended() {
    let site = Site::start();
    let token = site.stand.token("dee", "agents");
    let other = site.stand.token("bot", "agents");
    let endless = "SELECT BENCHMARK(1000000000000, SHA2('x', 256))";
    let own = site.stand.spawn_sql("dee;run=<i>7", &token, endless);
    let bots = site.stand.spawn_sql("bot", &other, endless);
    let mut dee = site.signed_in("dee");
    let page = wait_for("the session", || {
        let page = dee.get(&site.at("/sessions")).body;
        page.contains("/kill").then_some(page)
    });
    assert!(page.contains("run &lt;i&gt;7") && !page.contains(">bot"), "{page}");
    // What it runs, without a value.
    assert!(page.contains("select benchmark ( ? , sha2 ( ? ) )"), "{page}");
    assert!(!page.contains("1000000000000"), "{page}");
    let mut ann = site.signed_in("ann");
    let all = ann.get(&site.at("/sessions")).body;
    let ids: Vec<u64> = all
        .split("action=\"/sessions/")
        .skip(1)
        .map(|rest| rest.split('/').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{all}");
    let mine: u64 = page
        .split("action=\"/sessions/")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let bots_id = *ids.iter().find(|id| **id != mine).unwrap();
    let token = csrf(&mut dee, &site);
    let kill = |browser: &mut Browser, id: u64, token: &str| {
        browser.post(&site.at(&format!("/sessions/{id}/kill")), &[("csrf", token)]).status
    };
    assert_eq!(kill(&mut dee, bots_id, &token), 404, "another's is not there");
    assert_eq!(kill(&mut dee, mine, "wrong"), 403);
    assert_eq!(kill(&mut dee, mine, &token), 303);
    assert!(!own.wait_with_output().unwrap().status.success());
    let token = csrf(&mut ann, &site);
    assert_eq!(kill(&mut ann, bots_id, &token), 303);
    assert!(!bots.wait_with_output().unwrap().status.success());
}

fn form(csrf: &str) -> [(&str, &str); 2] {
    [("csrf", csrf), ("identity", "bot")]
}

#[test]
fn forms_of_other_sites_change_nothing() {
    let site = Site::start();
    let mut ann = site.signed_in("ann");
    let token = csrf(&mut ann, &site);
    let url = site.at("/identities/revoke");
    let own = site.url.clone();
    let port = Url::parse(&own).unwrap().port().unwrap();
    let neighbour = format!("http://127.0.0.1:{}", port - 1);
    for (what, headers) in [
        ("nothing is said", vec![]),
        ("another's", vec![("origin", "https://evil.example")]),
        ("a neighbour's", vec![("origin", neighbour.as_str())]),
        ("none", vec![("origin", "null"), ("sec-fetch-site", "cross-site")]),
        ("own, from elsewhere", vec![("origin", own.as_str()), ("sec-fetch-site", "cross-site")]),
        ("same site", vec![("sec-fetch-site", "same-site")]),
    ] {
        let page = ann.ask(&Method::POST, &url, &headers, Some(&form(&token)));
        assert_eq!(page.status, 403, "{what}: {}", page.body);
    }
    for csrf in [String::new(), "wrong".to_owned(), token.to_lowercase(), format!("{token}x")] {
        assert_eq!(ann.post(&url, &form(&csrf)).status, 403, "{csrf}");
    }
    // The token of another session of the same person.
    let mut again = site.signed_in("ann");
    let other = self::csrf(&mut again, &site);
    assert_ne!(other, token);
    assert_eq!(ann.post(&url, &form(&other)).status, 403);
    // By a link, or without a session.
    assert_eq!(ann.get(&format!("{url}?csrf={token}&identity=bot")).status, 404);
    assert_eq!(Browser::new().post(&url, &form(&token)).status, 303);
    // Another name of this machine (DNS rebinding).
    let host = [("host", "evil.example"), ("origin", own.as_str())];
    assert_eq!(ann.ask(&Method::POST, &url, &host, Some(&form(&token))).status, 421);
    assert_eq!(ann.ask(&Method::GET, &site.at("/"), &host, None).status, 421);
    assert!(!site.record().contains("identity.revoke"));
    assert_eq!(ann.post(&url, &form(&token)).status, 303);
}

#[test]
fn an_answer_counts_once_for_one_browser_and_one_sign_in() {
    let site = Site::start();
    let refused = |page: &Page| assert_eq!(page.status, 400, "{}", page.body);
    // Someone else's answer, brought to a browser that asked for none, or for another (login CSRF).
    let mut attacker = Browser::new();
    let answer = attacker.come_back(&site.url, "ann");
    let mut victim = Browser::new();
    refused(&victim.get(&answer));
    victim.get(&site.at("/sign-in/oidc/idp"));
    refused(&victim.get(&answer));
    assert!(!victim.cookies.contains_key("rowgate"));
    // The state left out, or another's.
    let changed = |name: &str, value: Option<&str>| {
        let mut url = Url::parse(&answer).unwrap();
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        url.query_pairs_mut().clear().extend_pairs(pairs.into_iter().filter_map(|(key, was)| {
            if key == name { value.map(|value| (key, value.to_owned())) } else { Some((key, was)) }
        }));
        String::from(url)
    };
    let with_cookie = |attacker: &Browser| {
        let mut copy = Browser::new();
        copy.cookies = attacker.cookies.clone();
        copy
    };
    refused(&with_cookie(&attacker).get(&changed("state", None)));
    refused(&with_cookie(&attacker).get(&changed("state", Some("x"))));
    // Another provider's answer (mix-up).
    let page = with_cookie(&attacker).get(&changed("iss", Some("https://evil.example")));
    assert_eq!(page.status, 403, "{}", page.body);
    let page = with_cookie(&attacker).get(&changed("iss", None));
    assert_eq!(page.status, 403, "the provider says that it names itself: {}", page.body);
    let page = with_cookie(&attacker).get(&changed("code", Some("made-up")));
    assert_eq!(page.status, 403);
    // A code under another sign-in's PKCE and nonce.
    let mut second = Browser::new();
    let other = second.come_back(&site.url, "dee");
    let code = |url: &str| {
        let url = Url::parse(url).unwrap();
        url.query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned()
    };
    let mut mixed = Url::parse(&answer).unwrap();
    let pairs: Vec<(String, String)> = mixed.query_pairs().into_owned().collect();
    mixed.query_pairs_mut().clear().extend_pairs(
        pairs.into_iter().map(
            |(key, was)| {
                if key == "code" { (key, code(&other)) } else { (key, was) }
            },
        ),
    );
    let page = with_cookie(&attacker).get(mixed.as_str());
    assert_eq!(page.status, 403, "{}", page.body);
    // And once it did count, no more.
    let mut third = Browser::new();
    let answer = third.come_back(&site.url, "ann");
    let before = third.cookies.clone();
    let page = third.get(&answer);
    assert_eq!(third.follow(page).url, site.at("/"));
    third.cookies = before;
    assert_eq!(third.get(&answer).status, 403, "a code is good once");
    let record = site.record();
    assert!(record.contains("\"state\"") && record.contains("\"target\":\"web\""), "{record}");
}

/// Makes an ID token for this nonce.
type Make<'a> = Box<dyn Fn(&str) -> String + 'a>;

#[test]
fn only_the_token_that_was_asked_for_counts() {
    let site = Site::start();
    let other = Issuer::start().unwrap();
    let es256 = "{\"alg\":\"ES256\"}";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Brings what `make` makes of the right claims; the page.
    let bring = |make: &dyn Fn(&str) -> String| {
        let mut browser = Browser::new();
        let page = browser.get(&site.at("/sign-in/oidc/idp"));
        let asked = Url::parse(page.header("location")).unwrap();
        let nonce = asked.query_pairs().find(|(key, _)| key == "nonce").unwrap().1.into_owned();
        let answer = browser.at_provider(&page, &[("name", "ann")]);
        site.issuer.answer_with(&make(&nonce)).unwrap();
        let page = browser.get(&answer);
        let page = browser.follow(page);
        (page, browser.cookies.contains_key("rowgate"))
    };
    let claims = |nonce: &str, changed: &str| {
        let comma = if changed.is_empty() { "" } else { "," };
        format!(
            "{{\"iss\":\"{}\",\"aud\":\"rowgate-pages\",\"sub\":\"ann\",\"groups\":[\"admins\"],\"iat\":{now},\"exp\":{},\"nonce\":\"{nonce}\"{comma}{changed}}}",
            site.issuer.url,
            now + 600
        )
    };
    let signed = |header: &str, nonce: &str, changed: &str| {
        site.issuer.sign(header, &claims(nonce, changed)).unwrap()
    };
    let (page, is_in) = bring(&|nonce| signed(es256, nonce, ""));
    assert!(page.status == 200 && is_in, "{}", page.body);
    let (page, is_in) = bring(&|nonce| {
        signed(es256, nonce, "\"aud\":[\"rowgate-pages\",\"x\"],\"azp\":\"rowgate-pages\"")
    });
    assert!(page.status == 200 && is_in, "{}", page.body);
    let good = signed(es256, "x", "");
    let part = |json: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    };
    let bad: Vec<(&str, Make<'_>)> = vec![
        ("another nonce", Box::new(|_| good.clone())),
        ("no nonce", Box::new(|nonce| signed(es256, nonce, "\"nonce\":null"))),
        (
            "a gateway token's audience",
            Box::new(|nonce| signed(es256, nonce, "\"aud\":\"rowgate\"")),
        ),
        ("given to another", Box::new(|nonce| signed(es256, nonce, "\"azp\":\"other\""))),
        (
            "for others as well",
            Box::new(|nonce| signed(es256, nonce, "\"aud\":[\"rowgate-pages\",\"x\"]")),
        ),
        ("expired", Box::new(|nonce| signed(es256, nonce, &format!("\"exp\":{}", now - 60)))),
        ("not yet", Box::new(|nonce| signed(es256, nonce, &format!("\"nbf\":{}", now + 300)))),
        ("the issuer", Box::new(|nonce| signed(es256, nonce, "\"iss\":\"https://evil.example\""))),
        ("another issuer's key", Box::new(|nonce| other.sign(es256, &claims(nonce, "")).unwrap())),
        ("another issuer's", Box::new(|_| other.of_etl_bot().unwrap())),
        ("no subject", Box::new(|nonce| signed(es256, nonce, "\"sub\":null"))),
        (
            "jku",
            Box::new(|nonce| {
                signed(&format!("{{\"alg\":\"ES256\",\"jku\":\"{}/jwks\"}}", other.url), nonce, "")
            }),
        ),
        (
            "none",
            Box::new(|nonce| {
                format!("{}.{}.", part("{\"alg\":\"none\"}"), part(&claims(nonce, "")))
            }),
        ),
        ("no token", Box::new(|_| "x".to_owned())),
    ];
    for (what, make) in bad {
        let (page, is_in) = bring(&make);
        assert!(page.status == 403 && !is_in, "{what}: {}", page.body);
        assert!(page.body.contains("was not accepted"), "{what}: {}", page.body);
    }
    // A login to the database is another matter: an ID token of the pages is none.
    let refused = site.stand.sql_refused("oidc", &signed(es256, "x", ""), "SELECT 1");
    assert!(refused.contains("1045"), "{refused}");
}

#[test]
fn nobody_prepares_a_session_for_someone_else() {
    let site = Site::start();
    // A cookie that was put there before, made up or of a session of the attacker's.
    let mut attacker = site.signed_in("dee");
    let planted = attacker.cookies["rowgate"].clone();
    let mut victim = Browser::new();
    victim.cookies.insert("rowgate".into(), planted.clone());
    victim.cookies.remove("rowgate");
    victim.cookies.insert("rowgate".into(), planted.clone());
    let back = victim.come_back(&site.url, "ann");
    let page = victim.get(&back);
    let page = victim.follow(page);
    assert!(page.body.contains(">ann<"), "{}", page.body);
    assert_ne!(victim.cookies["rowgate"], planted);
    // What was planted is nobody's now.
    assert_eq!(attacker.get(&site.at("/")).status, 303);
    let mut made_up = Browser::new();
    made_up.cookies.insert("rowgate".into(), "A".repeat(43));
    assert_eq!(made_up.get(&site.at("/")).status, 303);
    // The store keeps nothing that is a cookie.
    let store = std::fs::read(site.stand.gateway.dir().join("rowgate.db")).unwrap();
    let log = std::fs::read(site.stand.gateway.dir().join("rowgate.db-wal")).unwrap_or_default();
    let secret = victim.cookies["rowgate"].as_bytes();
    for bytes in [store, log, site.record().into_bytes(), site.stand.gateway.log().into_bytes()] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn ways_back_lead_nowhere_else() {
    let site = Site::start();
    for to in [
        "//evil.example/",
        "https://evil.example/",
        "/\\evil.example",
        "/%0d%0aset-cookie:x=y",
        "javascript:alert(1)",
    ] {
        let mut browser = Browser::new();
        let query: String =
            Url::parse_with_params("http://x/", &[("to", to)]).unwrap().query().unwrap().into();
        let page = browser.get(&site.at(&format!("/sign-in?{query}")));
        assert!(!page.body.contains("evil") && !page.body.contains("javascript:"), "{}", page.body);
        let page = browser.get(&site.at(&format!("/sign-in/oidc/idp?{query}")));
        let back = browser.at_provider(&page, &[("name", "dee")]);
        let page = browser.get(&back);
        assert!(
            page.body.contains("url=/\"") || page.body.contains("url=/%0d"),
            "{to}: {}",
            page.body
        );
        assert!(page.headers.get("set-cookie").unwrap().to_str().unwrap().starts_with("rowgate="));
        assert!(browser.follow(page).url.starts_with(&site.url));
    }
    // A page of ours is fine.
    let mut browser = Browser::new();
    let page = browser.get(&site.at("/sign-in/oidc/idp?to=/sessions"));
    let back = browser.at_provider(&page, &[("name", "dee")]);
    let page = browser.get(&back);
    assert_eq!(browser.follow(page).url, site.at("/sessions"));
}

#[test]
fn a_provider_that_says_no_says_it_in_our_words() {
    let site = Site::start();
    let mut browser = Browser::new();
    let page = browser.get(&site.at("/sign-in/oidc/idp"));
    let back = browser.at_provider(&page, &[("refuse", "yes")]);
    let page = browser.get(&back);
    assert_eq!(page.status, 403);
    assert!(page.body.contains("Example Corp did not sign you in"), "{}", page.body);
    assert!(!page.body.contains("alert(1)") && !browser.cookies.contains_key("rowgate"));
    // Names are anyone's text, too.
    let name = "x\"><img src=x onerror=alert(1)>";
    let page = Browser::new().sign_in(&site.url, name);
    assert!(page.status == 200 && page.body.contains("&lt;img src=x"), "{}", page.body);
    assert!(!page.body.contains("<img src=x"));
}

#[test]
fn every_answer_is_closed_to_others() {
    let site = Site::start();
    let mut ann = site.signed_in("ann");
    for path in ["/", "/sign-in", "/nothing", "/tokens", "/signed-out", "/sign-in/oidc/x/callback"]
    {
        let page = ann.get(&site.at(path));
        let policy = page.header("content-security-policy");
        for wanted in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(wanted), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        assert_eq!(page.header("strict-transport-security"), "", "plain HTTP");
        assert!(
            !page.body.contains(" style=")
                && !page.body.contains("<script>")
                && !page.body.contains(" onclick")
        );
    }
    // The admin API stays where it is.
    assert_eq!(ann.get(&site.at("/v1/status")).status, 404);
    assert_eq!(ann.get(&site.at("/metrics")).status, 404);
    let long = "x".repeat(20_000);
    let token = csrf(&mut ann, &site);
    let page = ann.post(&site.at("/identities/revoke"), &[("csrf", &token), ("identity", &long)]);
    assert_eq!(page.status, 400, "{}", page.body);
}

#[test]
fn over_https_cookies_are_of_this_host_and_https() {
    let site = Site::with("https", |folder| {
        crate::tls::make_pair(folder);
        let folder = folder.display();
        format!("certificate = \"{folder}/rowgate.crt\"\nkey = \"{folder}/rowgate.key\"")
    });
    let mut browser = Browser::new();
    let page = browser.get(&site.at("/sign-in/oidc/idp"));
    assert!(page.header("strict-transport-security").contains("max-age="));
    let cookie = page.header("set-cookie").to_owned();
    for wanted in
        ["__Host-rowgate-sign-in=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax"]
    {
        assert!(cookie.contains(wanted), "{cookie}");
    }
    let back = browser.at_provider(&page, &[("name", "dee")]);
    let page = browser.get(&back);
    let cookie = page.header("set-cookie").to_owned();
    for wanted in ["__Host-rowgate=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Strict"] {
        assert!(cookie.contains(wanted), "{cookie}");
    }
    assert!(!cookie.contains("Domain"));
    // A link of another site does not bring a strict cookie: the page leads on from here.
    let cross = [("sec-fetch-site", "cross-site")];
    let stranger = Browser::new().ask(&Method::GET, &site.at("/sessions"), &cross, None);
    assert!(stranger.body.contains("0; url=/sessions"), "{}", stranger.body);
    let page = browser.follow(page);
    assert_eq!((page.status, page.url), (StatusCode::OK, site.at("/")));
    // Without the prefix it is a neighbour's.
    let value = browser.cookies.remove("__Host-rowgate").unwrap();
    browser.cookies.insert("rowgate".into(), value);
    assert_eq!(browser.get(&site.at("/")).status, 303);
}

#[test]
fn auditors_look_back_at_what_a_client_saw() {
    let site = Site::start();
    let token = site.stand.token("bot", "agents");
    let sql = "SELECT id, name, ssn, '<i>so</i>' AS `<b>`, 'a\u{202e}b' AS r FROM customers ORDER BY id LIMIT 60; SELECT COUNT(*) FROM orders";
    site.stand.sql_ok("bot;run=<u>7</u>", &token, sql);
    let mut cyd = site.signed_in("cyd");
    let list = cyd.get(&site.at("/record")).body;
    let row = list.split("<tr").find(|row| row.contains(">bot<")).unwrap();
    assert!(row.contains("cells masked"), "{row}");
    let place = row.split("href=\"").nth(1).unwrap().split('"').next().unwrap();
    let page = cyd.get(&site.at(place)).body;
    let customer = xtask::shop::customer(5);
    for wanted in [
        customer.name.as_str(),
        "&lt;i&gt;so",
        "&lt;b&gt;",
        "&lt;u&gt;7",
        "shop.customers.ssn",
        "agents-pii",
        ">redact<",
        "masked</span>",
        "BLAKE3",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    for raw in xtask::shop::raw_values() {
        assert!(!page.contains(&raw), "{raw}");
    }
    assert!(!page.contains("<i>so") && !page.contains("<u>7"));
    assert!(
        page.contains("a\\u{202e}b") && !page.contains('\u{202e}'),
        "what reorders is spelt out"
    );
    assert_eq!(cyd.get(&site.at("/record/12345")).status, 404);
    let record = site.record();
    assert!(record.contains("\"record.replay\"") && record.contains("\"record.list\""), "{record}");
}

/// A device asks for a code: that, and its own secret.
fn device_code(site: &Site) -> (String, String) {
    let form = [("client_id", "cli"), ("label", "<b>laptop</b>"), ("target", "shop")];
    let page = Browser::new().ask(&Method::POST, &site.at("/device/code"), &[], Some(&form));
    assert_eq!(page.status, 200, "{}", page.body);
    let answer: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    assert_eq!(text("verification_uri"), site.at("/device"));
    (text("user_code"), text("device_code"))
}

#[test]
fn a_person_mints_a_password_and_lets_a_device_have_one() {
    let site = Site::start();
    let mut dee = site.signed_in("dee");
    let token = csrf(&mut dee, &site);
    let form = [("csrf", token.as_str()), ("target", "shop"), ("label", "<i>notebook</i>")];
    let page = dee.post(&site.at("/passwords"), &form);
    assert_eq!(page.status, 200, "{}", page.body);
    let password = page.body.split("<pre tabindex=\"0\"><code>").nth(1).unwrap();
    let password = password.split('<').next().unwrap().to_owned();
    let sql = "SELECT name, ssn FROM customers WHERE id = 5";
    let customer = xtask::shop::customer(5);
    let rows = site.stand.sql_ok("dee", &password, sql);
    assert!(rows.contains(&customer.name) && !rows.contains(&customer.ssn), "{rows}");
    let list = dee.get(&site.at("/")).body;
    assert!(list.contains("&lt;i&gt;notebook") && !list.contains(&password), "{list}");
    let end = list.split("action=\"/passwords/").nth(1).unwrap().split('"').next().unwrap();
    let end = site.at(&format!("/passwords/{end}"));
    // Another person's is not there.
    let mut ben = site.signed_in("ben");
    let of_ben = csrf(&mut ben, &site);
    assert_eq!(ben.post(&end, &[("csrf", &of_ben)]).status, 404);
    let page = dee.post(&end, &[("csrf", &token)]);
    assert!(dee.follow(page).body.contains("The password is good no more"));
    site.stand.sql_refused("dee", &password, "SELECT 1");
    // A device: what it says of itself is shown, and is text.
    let (code, device) = device_code(&site);
    let fetch = || {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device.as_str()),
        ];
        Browser::new().ask(&Method::POST, &site.at("/device/token"), &[], Some(&form))
    };
    let page = dee.get(&site.at(&format!("/device?code={code}")));
    assert!(
        page.body.contains("&lt;b&gt;laptop") && page.body.contains("127.0.0.1"),
        "{}",
        page.body
    );
    let form = |csrf: &str| {
        [("csrf", csrf.to_owned()), ("code", code.clone()), ("verdict", "agree".into())]
    };
    let send = |browser: &mut Browser, csrf: &str| {
        let form = form(csrf);
        let form: Vec<_> = form.iter().map(|(key, value)| (*key, value.as_str())).collect();
        browser.post(&site.at("/device"), &form)
    };
    assert_eq!(send(&mut dee, "wrong").status, 403);
    assert_eq!(send(&mut Browser::new(), &token).status, 303);
    let page = send(&mut dee, &token);
    assert!(page.body.contains("The device has what it needs"), "{}", page.body);
    std::thread::sleep(std::time::Duration::from_secs(6));
    let answer = fetch();
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let password = answer["access_token"].as_str().unwrap();
    site.stand.sql_ok("dee", password, sql);
}

/// What people do in a real browser, step by step: `tests/browser/pages.mjs` says what each does.
fn walks(code: &str) -> String {
    serde_json::json!([
        { "as": null, "script": [
            ["open", "/"], ["look", "sign-in"], ["open", "/nothing"],
        ] },
        { "as": "ann", "script": [
            ["look", "access"],
            ["open", "/approvals"], ["look", "approvals"],
            ["review"], ["look", "approval-of-another-group"],
            ["open", "/sessions"], ["look", "sessions"],
            ["click", "End…"], ["look", "sessions-end"],
            ["open", "/targets"], ["look", "targets"],
            ["open", "/identities"], ["look", "identities"],
            ["click", "Revoke…"], ["look", "identities-revoke"],
            ["open", "/tokens"], ["look", "tokens"],
            // Without a mouse.
            ["width", "1280"],
            ["tab", "New token…"], ["press", "Enter"], ["look", "tokens-new"],
            ["tab", "Identity"], ["type", "keyboard-bot"],
            ["tab", "Groups, with commas between"], ["type", "agents"],
            ["tab", "Make the token"], ["press", "Enter"],
            ["says", "A token for keyboard-bot"], ["look", "token-new"],
            ["print", ".secret pre code"],
            ["click", "Sign out"], ["says", "This session is over"], ["look", "signed-out"],
        ] },
        { "as": "dee", "script": [
            ["width", "1280"], ["look", "access-of-an-agent"],
            ["copy", "Copy the rowgate command for shop"],
            ["click", "Make a password"], ["says", "A password for dee"], ["look", "password-new"],
            ["print", ".secret pre code"],
            ["click", "Back to my access"], ["says", "My passwords"], ["look", "access-passwords"],
            ["open", "/device"], ["look", "device"],
            ["open", &format!("/device?code={code}")], ["look", "device-agree"],
            ["click", "Yes, connect it"], ["says", "The device has what it needs"], ["look", "device-done"],
        ] },
        { "as": "ben", "script": [
            ["open", "/approvals"], ["review"], ["look", "approval"],
            ["open", "/tokens"], ["says", "has not the role"],
        ] },
        { "as": "nobody-in-particular", "script": [["look", "access-of-nobody"]] },
        // Everything works without script, too.
        { "as": "ben", "without": true, "script": [
            ["open", "/approvals"], ["review"], ["click", "Deny"],
            ["says", "The request is denied"],
            ["click", "Sign out"], ["says", "This session is over"],
        ] },
        { "as": "cyd", "script": [
            ["open", "/sessions"], ["look", "sessions-of-an-auditor"],
            ["open", "/record"], ["look", "record"],
            ["replay", "report-bot", "agents-pci"], ["look", "record-replay"],
        ] },
    ])
    .to_string()
}

#[test]
fn people_use_the_pages_in_a_browser() {
    let site = Site::start();
    let pictures = xtask::sh::root().join("target/screenshots");
    let (code, _) = device_code(&site);
    let token = site.stand.token("etl-bot", "agents");
    let cli = |words: &[&str]| site.stand.gateway.cli_ok(words).unwrap();
    cli(&[
        "token",
        "create",
        "--identity",
        "report-service",
        "--group",
        "agents",
        "--target",
        "shop",
        "--expires",
        "7d",
    ]);
    cli(&["token", "create", "--identity", "old-bot", "--group", "agents"]);
    cli(&["identity", "revoke", "old-bot", "--reason", "left behind in a public repository"]);
    let reports = site.stand.token("report-bot", "agents");
    let sql = "SELECT c.id, c.name, c.card_number, c.email, o.state FROM customers c JOIN orders o ON o.customer_id = c.id \
               ORDER BY c.id LIMIT 6; SELECT COUNT(*) AS orders FROM orders; SELECT ssn FROM customers WHERE ssn = '1'";
    site.stand.sql_refused("report-bot;run=weekly", &reports, sql);
    let endless = "SELECT BENCHMARK(1000000000000, SHA2('x', 256))";
    let mut running = site.stand.spawn_sql("etl-bot;run=nightly-4711", &token, endless);
    let held = site.stand.spawn_sql(
        "etl-bot;run=nightly-4712",
        &token,
        "ALTER TABLE customers ADD COLUMN loyalty_tier VARCHAR(20) NOT NULL DEFAULT 'basic'",
    );
    site.stand.pending();
    let said = xtask::chromium::walk(&site.url, &pictures, &walks(&code)).unwrap();
    let own = format!("rowgate login --gateway {} --target shop\nrowgate connect shop\n", site.url);
    assert!(said.contains(&own), "{said}");
    let made: Vec<&str> = said.lines().filter(|line| line.starts_with("rg")).collect();
    site.stand.sql_ok("keyboard-bot", made[0], "SELECT 1");
    let rows = site.stand.sql_ok("dee", made[1], "SELECT ssn FROM customers WHERE id = 5");
    assert!(!rows.contains(&xtask::shop::customer(5).ssn), "{rows}");
    assert!(!held.wait_with_output().unwrap().status.success());
    running.kill().unwrap();
    running.wait().unwrap();
}
