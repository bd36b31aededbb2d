//! A session password between `rowgate login` and `rowgate connect`: in a file that nobody else reads, and in the forms that
//! programs take it in.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use zeroize::Zeroizing;

use super::CliError;
use super::login_args::Print;
use super::output::visible;
use crate::control::PasswordAnswer;
use crate::control::way::{CAS, Way, sh};

/// What a sign-in left.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Kept {
    /// The gateway's pages.
    pub(super) gateway: String,
    /// The CA of its certificates, where one was named.
    pub(super) ca: Option<PathBuf>,
    /// The password, and what it opens.
    pub(super) session: PasswordAnswer,
}

impl Kept {
    /// The file of this user.
    pub(super) fn path() -> Result<PathBuf, CliError> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|at| at.is_absolute());
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        let state = state.ok_or_else(|| {
            CliError::input(
                "neither $XDG_STATE_HOME nor $HOME says where to keep the sign-in; set one",
            )
        })?;
        Ok(state.join("rowgate/login.json"))
    }

    /// What is kept; none: nobody is signed in.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CliError> {
        let wrong = |why: &dyn std::fmt::Display| {
            CliError::failed(format!(
                "{}: {why}; sign in anew with `rowgate login`",
                path.display()
            ))
        };
        let text = match fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(&error)),
        };
        let mode = fs::metadata(path).map_err(|error| wrong(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(wrong(&"others may read it"));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| wrong(&error))
    }

    /// Keeps it in place of what was there.
    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        let failed = |why: &dyn std::fmt::Display| {
            CliError::failed(format!("{}: {why}; the sign-in can't be kept", path.display()))
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| failed(&error))?;
        let text = serde_json::to_vec(self).map(Zeroizing::new).map_err(|error| failed(&error))?;
        let new = path.with_extension(format!("{}.new", std::process::id()));
        private_file(&new, &text).map_err(|error| failed(&error))?;
        fs::rename(&new, path).map_err(|error| failed(&error))
    }

    /// Where this target is, the only one where none is named.
    pub(super) fn way(&self, target: Option<&str>) -> Result<Way, CliError> {
        let names: Vec<_> = self.session.reach.iter().map(|reach| visible(&reach.target)).collect();
        let found = match (target, self.session.reach.as_slice()) {
            (Some(name), all) => all.iter().find(|reach| reach.target == name),
            (None, [only]) => Some(only),
            (None, _) => {
                let text = format!("name one with --target: {}", names.join(", "));
                return Err(CliError::input(text));
            }
        };
        let found = found.ok_or_else(|| {
            let name = visible(target.unwrap_or_default());
            CliError::input(format!("{name}: this sign-in opens {}", names.join(", ")))
        })?;
        let gateway = Url::parse(&self.gateway).ok();
        let host = gateway.as_ref().and_then(Url::host_str).unwrap_or_default();
        Way::first(&found.listen, host).ok_or_else(|| {
            CliError::failed(format!("{}: it has no address for clients", visible(&found.target)))
        })
    }

    /// In the form of a program.
    pub(super) fn printed(
        &self,
        form: Print,
        target: Option<&str>,
    ) -> Result<Zeroizing<String>, CliError> {
        if form == Print::Json {
            let text = serde_json::to_string_pretty(&self.session);
            return text.map(Zeroizing::new).map_err(|error| CliError::failed(error.to_string()));
        }
        let way = self.way(target)?;
        let (user, password) = (&self.session.info.identity, &self.session.password);
        Ok(Zeroizing::new(match (form, &way) {
            (Print::Env, Way::Tcp { host, port, .. }) => format!(
                "export MYSQL_HOST={}\nexport MYSQL_TCP_PORT={port}\nexport ROWGATE_USER={}\n\
                 export MYSQL_PWD={}\nexport ROWGATE_PASSWORD={}\n",
                sh(host),
                sh(user),
                sh(password),
                sh(password)
            ),
            (Print::Env, Way::Socket(path)) => format!(
                "export MYSQL_UNIX_PORT={}\nexport ROWGATE_USER={}\nexport MYSQL_PWD={}\n\
                 export ROWGATE_PASSWORD={}\n",
                sh(path),
                sh(user),
                sh(password),
                sh(password)
            ),
            (Print::Dsn, Way::Tcp { host, port, .. }) => dsn(user, password, host, *port)?,
            (Print::Dsn, Way::Socket(_)) => {
                return Err(CliError::input("a socket has no URL; use --print my.cnf"));
            }
            _ => self.defaults(&way),
        }))
    }

    /// A defaults file of the stock clients. What only one of them knows is `loose-`, so that others pass over it.
    pub(super) fn defaults(&self, way: &Way) -> String {
        let (user, password) = (&self.session.info.identity, &self.session.password);
        let mut text = format!("[client]\nuser={}\npassword={}\n", quoted(user), quoted(password));
        match way {
            Way::Socket(path) => {
                text.push_str(&format!("protocol=socket\nsocket={}\n", quoted(path)));
            }
            Way::Tcp { host, port, tls } => {
                text.push_str(&format!("protocol=tcp\nhost={}\nport={port}\n", quoted(host)));
                if *tls {
                    let ca = self.ca.as_deref().unwrap_or(Path::new(CAS)).display().to_string();
                    text.push_str(&format!(
                        "ssl-ca={}\nloose-ssl-mode=VERIFY_IDENTITY\nloose-ssl-verify-server-cert\n",
                        quoted(&ca)
                    ));
                }
            }
        }
        text
    }
}

/// A new file that only its owner reads.
fn private_file(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)
}

/// A value of a defaults file.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " "))
}

fn dsn(user: &str, password: &str, host: &str, port: u16) -> Result<String, CliError> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let wrong = |()| CliError::failed("this can't be written as a URL; use --print my.cnf");
    let mut url = Url::parse(&format!("mysql://{host}:{port}/")).map_err(|_| wrong(()))?;
    url.set_username(user).map_err(wrong)?;
    url.set_password(Some(password)).map_err(wrong)?;
    Ok(format!("{url}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kept(listen: &str) -> Kept {
        let session = json!({
            "password": "rgs_a'b", "id": "pwd_1", "identity": "ann@x \"y\"", "kind": "human", "groups": [],
            "targets": [], "networks": [], "label": "", "created_us": 0, "expires_us": 1,
            "revoked_us": null, "used_us": null, "used_from": null,
            "reach": [{ "target": "shop", "listen": listen }],
        });
        let gateway = "https://gate.example:8443/".to_owned();
        Kept { gateway, ca: None, session: serde_json::from_value(session).unwrap() }
    }

    #[test]
    fn programs_get_it_in_their_forms() {
        let at = kept("0.0.0.0:3306, /run/shop.sock");
        let text = |form| at.printed(form, None).unwrap().to_string();
        assert_eq!(text(Print::Dsn), "mysql://ann%40x%20%22y%22:rgs_a'b@gate.example:3306/\n");
        let file = text(Print::MyCnf);
        assert!(file.contains("user=\"ann@x \\\"y\\\"\"\npassword=\"rgs_a'b\"\n"), "{file}");
        assert!(file.contains("host=\"gate.example\"\nport=3306\nssl-ca="), "{file}");
        assert!(text(Print::Env).contains("export MYSQL_PWD='rgs_a'\\''b'\n"));
        let near = kept("127.0.0.1:3306").printed(Print::MyCnf, Some("shop")).unwrap();
        assert!(near.contains("host=\"127.0.0.1\"") && !near.contains("ssl"), "{}", *near);
        let socket = kept("/run/shop.sock");
        assert!(socket.printed(Print::MyCnf, None).unwrap().contains("socket=\"/run/shop.sock\""));
        assert!(socket.printed(Print::Dsn, None).is_err());
        assert!(at.printed(Print::MyCnf, Some("crm")).is_err());
    }

    #[test]
    fn it_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/login.json");
        assert!(Kept::read(&path).unwrap().is_none());
        kept("127.0.0.1:1").write(&path).unwrap();
        kept("127.0.0.1:2").write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Kept::read(&path).unwrap().unwrap();
        assert_eq!(read.session.reach[0].listen, "127.0.0.1:2");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Kept::read(&path).is_err(), "others may have read it");
    }
}
