//! A real SAML identity provider on a free port of loopback: SimpleSAMLphp, set up as `tests/saml/idp` says.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::browser::Browser;
use crate::{setup, sh};

/// Its entity id.
pub const ENTITY_ID: &str = "https://idp.example/metadata";

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(20);

/// A running provider; ended when dropped.
#[derive(Debug)]
pub struct Provider {
    /// Where it is.
    pub url: String,
    folder: TempDir,
    child: Child,
}

/// A service that it knows: a gateway's side of SAML.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its entity id.
    pub entity_id: String,
    /// Where answers are sent.
    pub acs_url: String,
    /// JSON of what SimpleSAMLphp's `saml20-sp-remote` has besides, each with a comma before it.
    pub more: String,
}

/// The assertion is signed, the response is not.
pub const SIGNED_ASSERTION: &str =
    ", \"saml20.sign.response\": false, \"saml20.sign.assertion\": true";

impl Service {
    /// What a gateway with its pages at this address calls this provider.
    pub fn new(pages: &str, name: &str, more: &str) -> Self {
        let at = |what| format!("{pages}/saml/{name}/{what}");
        Self { entity_id: at("metadata"), acs_url: at("acs"), more: more.into() }
    }
}

impl Provider {
    /// Starts one that knows nobody.
    pub fn start() -> Result<Self> {
        let tree = setup::simplesamlphp()?;
        let folder = tempfile::tempdir()?;
        let here = folder.path();
        for name in ["tmp", "sessions", "web"] {
            fs::create_dir(here.join(name))?;
        }
        let www = tree.join("usr/share/simplesamlphp/www");
        std::os::unix::fs::symlink(www, here.join("web/simplesaml"))?;
        let set_up = sh::root().join("tests/saml/idp");
        sh::capture(Command::new("php").arg(set_up.join("keys.php")).arg(here))?;
        fs::write(here.join("services.json"), "{}")?;
        let port = crate::mariadb::free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let mut php = Command::new("php");
        php.arg("-S").arg(format!("127.0.0.1:{port}")).arg("-t").arg(here.join("web"));
        php.env("ROWGATE_IDP_DIR", here).env("ROWGATE_IDP_URL", &url);
        php.env("SIMPLESAMLPHP_CONFIG_DIR", set_up);
        let log = fs::File::create(here.join("php.log"))?;
        php.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = php.spawn().context("starting php")?;
        let mut provider = Self { url, folder, child };
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if since.elapsed() > START || provider.child.try_wait()?.is_some() {
                bail!("SimpleSAMLphp did not start: {}", provider.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let metadata = format!("{}/simplesaml/saml2/idp/metadata.php?output=xml", provider.url);
        let page = Browser::default().go(&metadata)?;
        if page.status != 200 {
            bail!("SimpleSAMLphp has no metadata: {} {}", page.status, provider.log());
        }
        fs::write(provider.metadata(), page.body)?;
        Ok(provider)
    }

    /// From now on, these are whom it knows.
    pub fn knows(&self, services: &[Service]) -> Result<()> {
        let all = services.iter().map(|Service { entity_id, acs_url, more }| {
            format!("\"{entity_id}\": {{\"AssertionConsumerService\": \"{acs_url}\"{more}}}")
        });
        let text = format!("{{{}}}", all.collect::<Vec<_>>().join(", "));
        Ok(fs::write(self.folder.path().join("services.json"), text)?)
    }

    /// The file of its metadata.
    pub fn metadata(&self) -> std::path::PathBuf {
        self.folder.path().join("metadata.xml")
    }

    /// The file of its certificate.
    pub fn certificate(&self) -> std::path::PathBuf {
        self.folder.path().join("idp.crt")
    }

    /// The `[[saml]]` table for it.
    pub fn table(&self, name: &str, more: &str) -> String {
        let metadata = self.metadata();
        format!(
            "[[saml]]\nname = \"{name}\"\nentity_id = \"{ENTITY_ID}\"\nmetadata = \"{}\"\ngroups = \"groups\"\n{more}\n",
            metadata.display()
        )
    }

    /// Signs in with a password, in a new browser: where the answer goes, and the answer in base64.
    pub fn answer(&self, to: &str, user: &str) -> Result<(String, String)> {
        let mut browser = Browser::default();
        let form = browser.go(to)?;
        let state = form.field("AuthState").with_context(|| self.unexpected(&form.body))?;
        let password = format!("{user}-s password");
        let fields = [("AuthState", state.as_str()), ("username", user), ("password", &password)];
        let at = form.url.split('?').next().unwrap_or_default();
        let sent = browser.send(at, &fields, "")?;
        let page = browser.follow(sent)?;
        let answer = page.field("SAMLResponse").with_context(|| self.unexpected(&page.body))?;
        let (_, rest) = page.body.split_once("action=\"").context("no action")?;
        let action = rest.split('"').next().unwrap_or_default().to_owned();
        Ok((action, answer))
    }

    fn unexpected(&self, body: &str) -> String {
        format!("the provider answered otherwise: {body}\n{}", self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("php.log")).unwrap_or_default()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
