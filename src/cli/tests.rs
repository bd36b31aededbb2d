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
fn every_help_has_examples_that_parse() {
    fn walk(command: &clap::Command, path: &str) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example"), "{path}: no examples");
        // A backslash at a line's end goes on in the next, as in a shell.
        let help = help.replace("\\\n      ", "");
        for line in help.lines().filter_map(|line| line.trim().strip_prefix("rowgate ")) {
            let line = line.split(['>', '<']).next().unwrap_or(line).trim_end();
            let line = line.replace('\'', "");
            let line = line.split("   ").next().unwrap_or_default();
            for line in line.split(" && rowgate ") {
                let words: Vec<&str> = line.split(' ').collect();
                // a reason of several words is one word to a shell
                let at = words.iter().position(|word| *word == "--reason");
                let words = &words[..at.map_or(words.len(), |at| at + 2)];
                let parsed = Cli::try_parse_from(std::iter::once(&"rowgate").chain(words));
                assert!(parsed.is_ok(), "{path}: {line}");
            }
        }
        for verb in command.get_subcommands() {
            walk(verb, &format!("{path} {}", verb.get_name()));
        }
    }
    walk(&Cli::command(), "rowgate");
}

#[test]
fn verbs() {
    let lines = [
        "token create --identity bot --group agents --group readers --expires 30d",
        "token create --identity backup --kind service --output json",
        "token list --output json",
        "token create --identity etl --target shop crm --from 10.0.0.0/8 ::1",
        "token rotate tok_1",
        "token rotate tok_1 --overlap 0s",
        "token revoke tok_1",
        "identity list --revoked",
        "identity revoke bot --reason leak",
        "identity restore bot",
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
    Token(Create(NewToken { identity: "bot", groups: ["agents", "readers"], kind: Agent, expires: Some(2592000), targets: [], networks: [] })) Table
    Token(Create(NewToken { identity: "backup", groups: [], kind: Service, expires: None, targets: [], networks: [] })) Json
    Token(List) Json
    Token(Create(NewToken { identity: "etl", groups: [], kind: Agent, expires: None, targets: ["shop", "crm"], networks: [Network { address: 10.0.0.0, prefix: 8 }, Network { address: ::1, prefix: 128 }] })) Table
    Token(Rotate { id: "tok_1", overlap: 3600 }) Table
    Token(Rotate { id: "tok_1", overlap: 0 }) Table
    Token(Revoke { id: "tok_1" }) Table
    Identity(List { revoked: true }) Table
    Identity(Revoke { name: "bot", reason: "leak" }) Table
    Identity(Restore { name: "bot", reason: "" }) Table
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
    invalid value 'odd' for '--state <STATE>' [possible values: pending, approved, denied, cancelled, expired, consumed, outdated, all]; see --help
    invalid value 'x' for '<ID>': invalid digit found in string; see --help
    unexpected argument '--verbose' found; see --help
    the following required arguments were not provided: --host <NAME>; see --help
    "#);
}

/// A gateway that answers on a socket, a store beside it, and the verbs as a user types them.
mod verbs_at_work {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::approval::{Desk, EventSink, GrantKey, NewRequest};
    use crate::config::{Admin, Approvals, Peer};
    use crate::control::{Answer, ControlDeps, Gateway, Listeners, SessionInfo, Status};
    use crate::record::Event;
    use crate::store::Store;

    fn configured(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("rowgate.toml");
        let text = format!(
            r#"version = 1
            [admin]
            socket = "{0}/admin.sock"
            [store]
            path = "{0}/data/store.db"
            [audit]
            dir = "{0}/audit"
            [policy]
            files = ["{1}/policies/default.cedar"]
            [[targets]]
            name = "shop"
            listen = "127.0.0.1:0"
            address = "127.0.0.1:3306"
            user = "rowgate"
            password = "env:UNSET"
            tls = "off"
            "#,
            dir.display(),
            env!("CARGO_MANIFEST_DIR")
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
            crate::store::Store::open(&dir.join("data/store.db"))
                .await
                .unwrap()
                .tokens()
                .await
                .unwrap()
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

    /// A running gateway as the command line sees it, on a thread of its own.
    struct Running {
        stop: Option<tokio::sync::oneshot::Sender<()>>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Running {
        fn start(dir: &Path) -> Self {
            let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir).unwrap());
            let peer = Peer {
                uid,
                identity: "dana".into(),
                groups: vec!["admins".into(), "approvers".into()],
            };
            let admin = Admin { socket: dir.join("admin.sock"), listen: None, peers: vec![peer] };
            let listeners = Listeners::bind(&admin).unwrap();
            let path = dir.join("data/store.db");
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                crate::store::tests::block_on(async {
                    let store = Store::open(&path).await.unwrap();
                    let events: Arc<dyn EventSink> = Arc::new(|_: &Event<'_>| Ok(()));
                    let (desk, service) =
                        Desk::open(store.clone(), &Approvals::default(), Arc::clone(&events))
                            .await
                            .unwrap();
                    tokio::spawn(service.run(std::future::pending()));
                    let waiting = desk.request(held()).unwrap();
                    while store.pending_approvals().await.unwrap() == 0 {
                        tokio::task::yield_now().await;
                    }
                    ready.send(()).unwrap();
                    let gateway = Arc::new(Still);
                    let rules = (&crate::config::Passwords::default()).into();
                    let people = Arc::new(crate::control::People::new(rules));
                    let look_back = crate::control::LookBack::new(crate::audit::read::Folder::new(
                        path.with_file_name("audit"),
                    ));
                    let deps = ControlDeps { store, desk, events, gateway, people, look_back };
                    let stop = async {
                        let _ = stopped.await;
                    };
                    crate::control::serve(listeners, deps, stop).await;
                    assert_eq!(waiting.await.fault(None).unwrap().code, 1644);
                });
            });
            is_ready.recv().unwrap();
            Self { stop: Some(stop), thread: Some(thread) }
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            drop(self.stop.take());
            let ended = self.thread.take().map(std::thread::JoinHandle::join);
            assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
        }
    }

    fn held() -> NewRequest {
        NewRequest {
            identity: "bot".into(),
            on_behalf_of: None,
            groups: vec!["agents".into()],
            target: "shop".into(),
            schema: None,
            session: 7,
            statement: "DROP TABLE payments".into(),
            digest: "00".into(),
            verb: "drop".into(),
            tables: vec!["shop.payments".into()],
            rule: "hold-drop".into(),
            message: "a person must agree".into(),
            details: crate::store::Details::default(),
            approver_groups: vec![],
            approvers: 1,
            grant_key: GrantKey([1; 32]),
            wait: true,
            mode: None,
        }
    }

    /// A gateway that has nothing to tell.
    struct Still;

    impl Gateway for Still {
        fn status(&self) -> Status {
            Status::default()
        }

        fn sessions(&self) -> Vec<SessionInfo> {
            Vec::new()
        }

        fn kill(&self, _session: u64) -> bool {
            false
        }

        fn reload<'a>(&'a self, _by: &'a str) -> Answer<'a, Result<String, String>> {
            Box::pin(std::future::ready(Err("a.cedar: no".to_owned())))
        }

        fn tokens_changed(&self) -> Answer<'_, bool> {
            Box::pin(std::future::ready(true))
        }

        fn refresh_keys(&self, _issuer: usize) -> Answer<'_, ()> {
            Box::pin(std::future::ready(()))
        }

        fn ready(&self) -> Result<(), String> {
            Ok(())
        }

        fn metrics(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn with_a_gateway_the_verbs_reach_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = configured(dir.path());
        let running = Running::start(dir.path());
        for line in ["status", "sessions list", "approvals list --output json", "token list"] {
            typed(&config, line).unwrap();
        }
        let good = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{good}\n[approvalz]\n")).unwrap();
        for line in ["status", "token list"] {
            typed(&config, line).unwrap();
        }
        std::fs::write(&config, good).unwrap();
        typed(&config, "token create --identity ann --kind human").unwrap();
        assert_eq!(store(dir.path())[0].created_by, "dana");
        assert_eq!(failed(typed(&config, "reload")), "a.cedar: no");
        assert_eq!(failed(typed(&config, "sessions kill 9")), "there is no such session");
        let id = crate::store::tests::block_on(async {
            let store = Store::open(&dir.path().join("data/store.db")).await.unwrap();
            store.approvals(None, 1).await.unwrap().remove(0).id
        });
        typed(&config, &format!("approvals show {id}")).unwrap();
        typed(&config, &format!("approvals deny {id} --reason no")).unwrap();
        let again = failed(typed(&config, &format!("approvals approve {id}")));
        assert_eq!(again, format!("{id} is denied already"));
        drop(running);
    }
}
