//! `cargo xtask demo identity`: who one is to the gateway. Agents with the tokens of their provider, people who sign in by
//! OIDC and SAML in a browser, a terminal that asks for a person, and those who are kept out; with real providers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use xtask::clients::Login;
use xtask::gateway::{self, Gateway, Options};
use xtask::issuer::Issuer;
use xtask::mariadb::{self, Server};
use xtask::saml::{Provider, SIGNED_ASSERTION, Service};
use xtask::sh::{self, step};
use xtask::terminal::Terminal;
use xtask::{chromium, mysql, setup, shop};

use super::Folder;

const QUERY: &str = "SELECT id, name, email, ssn FROM customers ORDER BY id LIMIT 2";

/// What the sign-in page calls the two providers; `tests/browser/pages.mjs` knows how one signs in at each.
const BY_OIDC: &str = "Example Corp";
const BY_SAML: &str = "The corporation";

/// A look takes a moment; on a loaded machine more.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the scenes; stays up afterwards unless `once`.
pub(crate) fn demo(once: bool) -> Result<()> {
    let start = Instant::now();
    setup::js_drivers()?;
    setup::browser()?;
    let binary = super::build()?;
    let folder = Folder::new()?;
    let scene = Scene::set(binary, &folder)?;
    scene.an_agent_with_its_providers_token()?;
    scene.mysqls_client_with_a_token_in_a_file()?;
    let password = scene.a_person_by("dee", BY_OIDC, "oidc")?;
    if scene.saml.is_some() {
        scene.a_person_by("ann", BY_SAML, "saml")?;
    }
    scene.a_terminal()?;
    scene.who_is_revoked(&password)?;
    scene.what_is_no_login()?;
    scene.the_record()?;
    println!();
    step(&format!("all of it took {:.0} s", start.elapsed().as_secs_f64()));
    println!("    pictures of the pages: {}", scene.pictures.display());
    if once { Ok(()) } else { scene.stay_up() }
}

struct Scene {
    binary: PathBuf,
    gateway: Gateway,
    issuer: Issuer,
    saml: Option<Provider>,
    /// Of the pages.
    url: String,
    /// For what goes with the demo.
    folder: PathBuf,
    /// The gateway's certificate.
    ca: PathBuf,
    /// Where pictures are kept.
    pictures: PathBuf,
    raw: Vec<String>,
    _database: Server,
}

impl Scene {
    fn set(binary: PathBuf, folder: &Folder) -> Result<Self> {
        let database = super::shop_database(folder)?;
        step("starting an OpenID provider (oidc-provider, from npm)");
        let issuer = Issuer::start()?;
        println!("    {}", issuer.url);
        let saml = saml_provider()?;
        let url = format!("http://127.0.0.1:{}", mariadb::free_port()?);
        let folder = folder.0.clone();
        let ca = gateway::make_pair(&binary, &folder)?;
        let tables = tables(&folder, &url, &issuer, saml.as_ref())?;
        step("starting rowgate serve, which trusts them");
        let mut options = Options::new(database.port());
        options.more = tables;
        let gateway = Gateway::start(&binary, &folder.join("gateway"), &options)?;
        println!("    pages {url}, the database on 127.0.0.1:{}", gateway.port);
        let pictures = sh::root().join("target/demo-identity");
        let raw = shop::raw_values();
        Ok(Self {
            binary,
            gateway,
            issuer,
            saml,
            url,
            folder,
            ca,
            pictures,
            raw,
            _database: database,
        })
    }

    fn login<'a>(&'a self, user: &'a str, password: &'a str) -> Login<'a> {
        Login { port: self.gateway.port, ca: &self.ca, user, password }
    }

    /// Runs a client, and shows what came of it, which must be masked rows.
    fn masked(&self, who: &str, mut client: Command) -> Result<()> {
        println!("\n\x1b[36m{who}> {QUERY}\x1b[0m");
        let output = client.output()?;
        let text = sh::said(&output);
        print!("{text}");
        super::nothing_raw(&self.raw, &text)?;
        let came = output.status.success() && text.contains(&shop::customer(1).name);
        ensure!(came, "no rows came; the gateway's log:\n{}", self.gateway.log());
        Ok(())
    }

    /// The error that a login ends with.
    fn refused(&self, user: &str, password: &str) -> Result<String> {
        let output = self.login(user, password).mariadb("SELECT 1").output()?;
        ensure!(!output.status.success(), "{user} got in");
        Ok(sh::said(&output).trim().to_owned())
    }

    /// A verb of an admin's.
    fn admin(&self, words: &[&str]) -> Result<()> {
        println!("\n\x1b[33madmin$ rowgate {}\x1b[0m", words.join(" "));
        print!("{}", self.gateway.cli_ok(words)?);
        Ok(())
    }

    fn an_agent_with_its_providers_token(&self) -> Result<()> {
        step(
            "an agent's password is the token (JWT) that its provider gave it: stock drivers, inside TLS",
        );
        let token = self.issuer.of_etl_bot()?;
        println!("    {}… ({} characters, good for 10 minutes)", &token[..24], token.len());
        let login = self.login("oidc", &token);
        self.masked("PyMySQL, user oidc", login.pymysql(QUERY)?)?;
        self.masked("mysql2 (Node.js), user oidc", login.mysql2(QUERY)?)?;
        self.masked("mariadb, user etl-bot", self.login("etl-bot", &token).mariadb(QUERY))
    }

    fn mysqls_client_with_a_token_in_a_file(&self) -> Result<()> {
        if mysql::is_left_out() {
            return Ok(());
        }
        step(
            "MySQL's own client takes the token from a file (authentication_openid_connect_client)",
        );
        mysql::fetch()?;
        let mut client = self.login("oidc", "").mysql(Some(&self.token_file()?), QUERY)?;
        // A MariaDB's greeting does not bring it to ask for that by itself.
        client.arg("--default-auth=authentication_openid_connect_client");
        self.masked("mysql, user oidc", client)
    }

    /// A file with a new token of the agent's.
    fn token_file(&self) -> Result<PathBuf> {
        let file = self.folder.join("id_token");
        std::fs::write(&file, self.issuer.of_etl_bot()?)?;
        Ok(file)
    }

    /// Someone signs in in headless Chromium and makes a password, which stock clients take.
    fn a_person_by(&self, who: &str, by: &str, picture: &str) -> Result<String> {
        step(&format!(
            "{who} signs in by {by} ({}) in Chromium, and makes a password",
            picture.to_uppercase()
        ));
        let password = chromium::mint(&self.url, &self.pictures, who, by, picture)?;
        println!(
            "    {}… (shown once; pictures {picture}-access.png, {picture}-password.png)",
            &password[..8]
        );
        let login = self.login(who, &password);
        self.masked(&format!("mariadb, user {who}"), login.mariadb(QUERY))?;
        self.masked(&format!("PyMySQL, user {who}"), login.pymysql(QUERY)?)?;
        Ok(password)
    }

    fn a_terminal(&self) -> Result<()> {
        step("a terminal asks for a person (RFC 8628), who agrees in the browser");
        let terminal = Terminal::new(&self.binary, &self.folder.join("home"));
        println!("\n\x1b[36mdee$ rowgate login --gateway {} --target shop\x1b[0m", self.url);
        let login = terminal.begin(&self.url)?;
        println!("{}", login.said.join("\n"));
        chromium::agree(&self.url, &self.pictures, "dee", &login.code())?;
        println!("    (dee agrees; picture device.png)");
        let ended = login.end()?;
        print!("{}", sh::said(&ended));
        ensure!(ended.status.success(), "the sign-in failed");
        let words = ["connect", "shop", "--", "--batch", "--database=shop", "--execute", QUERY];
        self.masked("rowgate connect shop", terminal.rowgate(&words))?;
        println!("\n\x1b[36mdee$ rowgate logout\x1b[0m");
        print!("{}", sh::said(&terminal.run(&["logout"])?));
        Ok(())
    }

    fn who_is_revoked(&self, password: &str) -> Result<()> {
        step(
            "an admin revokes an identity: its running session ends, and nobody logs in under its name",
        );
        let mut client = self.login("dee", password).mariadb("SELECT SLEEP(600)");
        println!("\n\x1b[36mmariadb, user dee> SELECT SLEEP(600)\x1b[0m   (running)");
        let session = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        self.wait_for_a_session_of("dee")?;
        let start = Instant::now();
        self.admin(&["identity", "revoke", "dee", "--reason", "a lost laptop"])?;
        let ended = session.wait_with_output()?;
        let after = start.elapsed();
        print!("{}", sh::said(&ended));
        ensure!(!ended.status.success() && after < PATIENCE, "the session went on for {after:?}");
        println!("    the session ended {:.1} s later; another login:", after.as_secs_f64());
        println!("{}", self.refused("dee", password)?);
        self.admin(&["identity", "restore", "dee"])
    }

    fn wait_for_a_session_of(&self, who: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.gateway.cli_ok(&["sessions", "list"])?.contains(who) {
            if Instant::now() > deadline {
                bail!("no session of {who}; the gateway's log:\n{}", self.gateway.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn what_is_no_login(&self) -> Result<()> {
        step("what is no good token gets the one error; only the record says why");
        let good = self.issuer.of_etl_bot()?;
        let (signed, _) = good.rsplit_once('.').unwrap_or_default();
        let (_, claims) = signed.split_once('.').unwrap_or_default();
        let es256 = "{\"alg\":\"ES256\"}";
        let changed = |claims: &str| self.issuer.sign(es256, &self.issuer.claims(claims)?);
        let tries = [
            // {"alg":"none"}
            ("algorithm none", format!("eyJhbGciOiJub25lIn0.{claims}.")),
            ("signed as another token is", format!("{signed}.{}", signature(&changed("")?))),
            ("expired", changed("\"exp\":1700000000")?),
            ("for another audience", changed("\"aud\":\"another\"")?),
            ("another issuer's", changed("\"iss\":\"https://evil.example\"")?),
            ("no token at all", "a guess".to_owned()),
        ];
        let mut seen = Vec::new();
        for (what, token) in tries {
            let error = self.refused("etl-bot", &token)?;
            println!("    {what:<32}{error}");
            seen.push(error);
        }
        seen.dedup();
        ensure!(seen.len() == 1 && seen[0].contains("ERROR 1045 (28000)"), "they are told apart");
        Ok(())
    }

    fn the_record(&self) -> Result<()> {
        step("who came in, who did not, and why: the record and the metrics");
        self.admin(&["audit", "tail", "-n", "8"])?;
        self.admin(&["audit", "verify"])?;
        println!();
        super::show_metric(&self.gateway, "rowgate_logins_total")
    }

    fn stay_up(mut self) -> Result<()> {
        let (port, ca, binary) = (self.gateway.port, self.ca.display(), self.binary.display());
        println!("\nIt stays up. The pages: {}\n", self.url);
        println!(
            "  {BY_OIDC} (OIDC) believes any name: ann (admins, dba), ben (approvers), cyd (auditors), dee (agents)"
        );
        if self.saml.is_some() {
            println!(
                "  {BY_SAML} (SAML): ann, password `ann-s password`; bob, `bob-s password` (no database)"
            );
        }
        println!("\nA terminal:\n\n  {binary} login --gateway {} --target shop", self.url);
        println!("  {binary} connect shop -- --database=shop");
        println!("\nAn agent, with a token that is good for 10 minutes:\n");
        println!(
            "  curl -s {}/token -d grant_type=client_credentials -d scope=sql -d client_id=etl-bot \\",
            self.issuer.url
        );
        println!("    -d client_secret='a secret of the agent' -d resource=http://gateway/rowgate");
        println!(
            "  MYSQL_PWD=$TOKEN mariadb --no-defaults -h 127.0.0.1 -P {port} -u oidc --ssl-ca={ca} \\\n    --ssl-verify-server-cert shop"
        );
        println!(
            "\nAn admin:\n\n  export ROWGATE_CONFIG={}",
            self.gateway.dir().join("rowgate.toml").display()
        );
        println!("  {binary} identity list");
        super::wait_for_the_end()?;
        self.gateway.terminate()?;
        Ok(())
    }
}

/// SimpleSAMLphp, where there is PHP.
fn saml_provider() -> Result<Option<Provider>> {
    if let Err(error) = setup::simplesamlphp() {
        step(&format!("no SimpleSAMLphp, so sign-in by SAML is LEFT OUT: {error:#}"));
        return Ok(None);
    }
    step("starting a SAML provider (SimpleSAMLphp)");
    let provider = Provider::start()?;
    println!("    {}", provider.url);
    Ok(Some(provider))
}

/// The configuration of TLS, the pages and both providers; who is known to whom.
fn tables(folder: &Path, url: &str, issuer: &Issuer, saml: Option<&Provider>) -> Result<String> {
    let mut tables = gateway::tls_table(folder) + &gateway::web_table(url, "");
    tables.push_str(&issuer.pages_table(url, &folder.join("secret"), "")?);
    if let Some(saml) = saml {
        saml.knows(&[Service::new(url, "corp", SIGNED_ASSERTION)])?;
        let more = format!("title = \"{BY_SAML}\"\ngroup_names = {{ analysts = \"agents\" }}");
        tables.push_str(&saml.table("corp", &more));
    }
    Ok(tables)
}

/// The last part of a token.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().unwrap_or_default()
}
