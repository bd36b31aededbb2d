//! TLS towards the clients, as stock clients meet it.

use std::fs;
use std::path::Path;

use crate::stand::{Stand, errors, wait_for};

/// A self-signed pair in `folder`.
pub(crate) fn make_pair(folder: &Path) {
    xtask::gateway::make_pair(&crate::stand::binary(), folder).unwrap();
}

/// Puts the files of a pair where the gateway reads them.
fn put(from: &Path, to: &Path) {
    for name in ["rowgate.crt", "rowgate.key"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn with_pair(folder: &Path) -> Stand {
    with_pair_and(folder, "")
}

fn with_pair_and(folder: &Path, more: &str) -> Stand {
    let tls = xtask::gateway::tls_table(folder);
    Stand::with(|options| options.more = format!("{tls}{more}"))
}

/// Whether a stock client that trusts this certificate only gets in.
fn trusts(stand: &Stand, token: &str, certificate: &Path) -> bool {
    let mut client = stand.gateway.client("bot", token);
    client.arg("--ssl-verify-server-cert").arg(format!("--ssl-ca={}", certificate.display()));
    client.args(["--batch", "-e", "SELECT 1"]).output().unwrap().status.success()
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let [old, new, live] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    make_pair(old.path());
    make_pair(new.path());
    put(old.path(), live.path());
    let stand = with_pair(live.path());
    let token = stand.token("bot", "agents");
    let [old_pem, new_pem] = [&old, &new].map(|folder| folder.path().join("rowgate.crt"));
    assert!(trusts(&stand, &token, &old_pem));
    assert!(!trusts(&stand, &token, &new_pem));

    put(new.path(), live.path());
    stand.gateway.cli_ok(&["reload"]).unwrap();
    assert!(trusts(&stand, &token, &new_pem));
    assert!(!trusts(&stand, &token, &old_pem));

    // A change of the files is seen by itself, too.
    put(old.path(), live.path());
    wait_for("the old pair", || trusts(&stand, &token, &old_pem).then_some(()));
}

#[test]
fn a_broken_pair_changes_nothing() {
    let [old, new, live] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    make_pair(old.path());
    make_pair(new.path());
    put(old.path(), live.path());
    let stand = with_pair(live.path());
    let token = stand.token("bot", "agents");
    let old_pem = old.path().join("rowgate.crt");
    let version = || {
        let status = stand.gateway.cli_ok(&["status", "--output", "json"]).unwrap();
        let at = status.find("policy_version").unwrap();
        status[at..].split('"').nth(2).unwrap().to_owned()
    };
    let before = version();
    let live_pem = live.path().join("rowgate.crt");
    let policy = stand.gateway.dir().join("policy.cedar");
    let mut changed = fs::read_to_string(&policy).unwrap();
    changed.push_str("\n// changed\n");
    fs::write(&policy, changed).unwrap();
    for (broken, said) in [
        (fs::read(new.path().join("rowgate.crt")).unwrap(), "the key of its first certificate"),
        (b"no PEM".to_vec(), "there is no certificate in it"),
    ] {
        fs::write(&live_pem, broken).unwrap();
        let reload = stand.gateway.cli(&["reload"]).unwrap();
        let error = errors(&reload);
        assert!(!reload.status.success() && error.contains("tls.certificate"), "{error}");
        assert!(error.contains(said) && error.contains("rowgate.crt"), "{error}");
        assert_eq!(version(), before, "all or nothing: the policy stays as well");
        assert!(trusts(&stand, &token, &old_pem));
    }
    put(old.path(), live.path());
    stand.gateway.cli_ok(&["reload"]).unwrap();
    assert_ne!(version(), before);
    assert!(trusts(&stand, &token, &old_pem));
}

#[test]
fn clients_certificates_are_verified_and_recorded() {
    let [server, known, stranger] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    make_pair(server.path());
    for folder in [&known, &stranger] {
        let pair = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        fs::write(folder.path().join("rowgate.crt"), pair.cert.pem()).unwrap();
        fs::write(folder.path().join("rowgate.key"), pair.signing_key.serialize_pem()).unwrap();
    }
    let ca = format!("client_ca = \"{}\"\n", known.path().join("rowgate.crt").display());
    for need in ["required", "optional"] {
        let more = format!("{ca}client_certificates = \"{need}\"\n");
        let stand = with_pair_and(server.path(), &more);
        let token = stand.token("bot", "agents");
        let gets_in = |pair: Option<&Path>| {
            let mut client = stand.gateway.client("bot", &token);
            client.arg("--ssl");
            if let Some(pair) = pair {
                client.arg(format!("--ssl-cert={}", pair.join("rowgate.crt").display()));
                client.arg(format!("--ssl-key={}", pair.join("rowgate.key").display()));
            }
            client.args(["--batch", "-e", "SELECT 1"]).output().unwrap().status.success()
        };
        let recorded = || {
            let record =
                stand.gateway.cli_ok(&["audit", "tail", "-n", "100", "--output", "json"]).unwrap();
            record.matches("tls_client_certificate").count()
        };
        let optional = need == "optional";
        assert_eq!(gets_in(None), optional, "{need}");
        assert!(!gets_in(Some(stranger.path())), "{need}");
        // Outside TLS there is no certificate: then required means TLS, on loopback too.
        let mut plain = stand.gateway.client("bot", &token);
        let plain = plain.args(["--skip-ssl", "--batch", "-e", "SELECT 1"]).output().unwrap();
        let asked_for_tls = errors(&plain).contains("3159");
        assert_eq!(asked_for_tls, !optional, "{need}: {}", errors(&plain));
        assert_eq!(plain.status.success(), optional, "{need}: {}", errors(&plain));
        assert_eq!(recorded(), 0, "{need}");
        assert!(gets_in(Some(known.path())), "{need}: {}", stand.gateway.log());
        assert_eq!(recorded(), 1, "{need}");
    }
}
