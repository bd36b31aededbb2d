//! What can be typed and what is said to what can't: snapshots.

use clap::Parser as _;

use super::*;

fn parsed(line: &str) -> String {
    let words = line.split(' ').filter(|word| !word.is_empty());
    match Cli::try_parse_from(std::iter::once("rowgate").chain(words)) {
        Ok(cli) => format!("{:?} {:?}", cli.verb, cli.output),
        Err(error) => usage(&error),
    }
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn verbs() {
    let lines = [
        "token create --identity bot --group agents --group readers --expires 30d",
        "token create --identity backup --kind service --output json",
        "token list --output json",
        "token revoke tok_1",
        "approvals list",
        "approvals list --state all",
        "approvals approve apr_1",
        "approvals deny apr_1 --reason no",
        "sessions kill 7",
        "status",
        "cert self-signed --out tls --host a --host 127.0.0.1",
    ];
    let parsed: Vec<String> = lines.iter().map(|line| parsed(line)).collect();
    insta::assert_snapshot!(parsed.join("\n"), @r#"
    Token(Create(NewToken { identity: "bot", groups: ["agents", "readers"], kind: Agent, expires: Some(2592000) })) Table
    Token(Create(NewToken { identity: "backup", groups: [], kind: Service, expires: None })) Json
    Token(List) Json
    Token(Revoke { id: "tok_1" }) Table
    Approvals(List { state: Pending }) Table
    Approvals(List { state: All }) Table
    Approvals(Approve { id: "apr_1", reason: "" }) Table
    Approvals(Deny { id: "apr_1", reason: "no" }) Table
    Sessions(Kill { id: 7 }) Table
    Status Table
    Cert(SelfSigned { out: "tls", hosts: ["a", "127.0.0.1"], days: 365 }) Table
    "#);
}

#[test]
fn complaints_are_one_line() {
    let lines = [
        "tokens",
        "token create",
        "token create --identity bot --expires soon",
        "approvals deny apr_1",
        "approvals list --state odd",
        "sessions kill x",
        "status --verbose",
        "cert self-signed --out tls",
    ];
    let said: Vec<String> = lines.iter().map(|line| parsed(line)).collect();
    assert!(said.iter().all(|line| !line.contains('\n')));
    insta::assert_snapshot!(said.join("\n"), @r#"
    unrecognized subcommand 'tokens'; a similar subcommand exists: 'token'
    the following required arguments were not provided: --identity <NAME>; see --help
    invalid value 'soon' for '--expires <TIME>': write a number and s, m, h, d or w, such as 30d; see --help
    the following required arguments were not provided: --reason <REASON>; see --help
    invalid value 'odd' for '--state <STATE>' [possible values: pending, approved, denied, cancelled, expired, consumed, all]; see --help
    invalid value 'x' for '<ID>': invalid digit found in string; see --help
    unexpected argument '--verbose' found; see --help
    the following required arguments were not provided: --host <NAME>; see --help
    "#);
}

/// A gateway that answers on a socket, a store beside it, and the verbs as a user types them.
mod verbs_at_work {
    use std::path::Path;

    use super::*;

    fn configured(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("rowgate.toml");
        let text = format!(
            r#"version = 1
            targets = []
            [admin]
            socket = "{0}/admin.sock"
            [store]
            path = "{0}/store.db"
            [audit]
            dir = "{0}/audit"
            [policy]
            files = []
            "#,
            dir.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn typed(config: &Path, line: &str) -> Result<(), CliError> {
        let words = ["rowgate", "--config", config.to_str().unwrap()];
        run(Cli::try_parse_from(words.into_iter().chain(line.split(' '))).unwrap())
    }

    fn failed(result: Result<(), CliError>) -> String {
        match result {
            Err(CliError::Failed(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn store(dir: &Path) -> Vec<crate::store::StoredToken> {
        crate::store::tests::block_on(async {
            crate::store::Store::open(&dir.join("store.db")).await.unwrap().tokens().await.unwrap()
        })
    }

    #[test]
    fn without_a_gateway_tokens_go_straight_into_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let config = configured(dir.path());
        typed(&config, "token create --identity bot --group agents --expires 1h").unwrap();
        let token = store(dir.path()).remove(0);
        assert_eq!((token.record.identity.as_str(), token.created_by.as_str()), ("bot", "offline"));
        assert_eq!(token.record.expires_us, Some(token.created_us + 3_600_000_000));
        typed(&config, "token list").unwrap();
        typed(&config, &format!("token revoke {}", token.record.id)).unwrap();
        assert!(store(dir.path())[0].record.revoked);
        failed(typed(&config, &format!("token revoke {}", token.record.id)));
        let bad = typed(&config, "token create --identity a;b");
        assert!(matches!(bad, Err(CliError::Input(_))), "{bad:?}");
    }

    #[test]
    fn without_a_gateway_the_rest_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let config = configured(dir.path());
        for line in ["status", "approvals list", "approvals show apr_1", "reload", "sessions list"]
        {
            let text = failed(typed(&config, line));
            assert!(text.contains("admin.sock") && text.contains("rowgate serve"), "{text}");
        }
    }

    #[test]
    fn bad_input() {
        let dir = tempfile::tempdir().unwrap();
        let missing = typed(&dir.path().join("none.toml"), "status");
        assert!(
            matches!(&missing, Err(CliError::Input(text)) if text.contains("none.toml")),
            "{missing:?}"
        );
        let config = configured(dir.path());
        let slash = typed(&config, "approvals show ../tokens");
        assert!(matches!(slash, Err(CliError::Input(_))), "{slash:?}");
        std::fs::write(&config, "version = 1\nwhat = 2").unwrap();
        let wrong = typed(&config, "status");
        assert!(matches!(&wrong, Err(CliError::Input(text)) if text.contains("what")), "{wrong:?}");
    }
}
