//! Who else is told of approvals: a real receiver checks what it gets by its own means, and Slack's buttons are pressed as
//! Slack presses them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use xtask::mariadb;

use crate::stand::{Stand, wait_for};

const SECRET: &str = "a secret of the receiver's";

/// A receiver of HTTP, which answers the first so many requests with 500.
struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    fn start(failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let request = read(&mut stream);
                let mut all = all.lock().unwrap();
                let status = if all.len() < failures { "500 No" } else { "204 Yes" };
                all.push(request);
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { port, got }
    }

    /// Heads and bodies.
    fn got(&self) -> Vec<(String, String)> {
        self.got.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<String> {
        let bodies = self.got().into_iter().map(|(_, body)| body);
        let event = |body: String| {
            let body: Value = serde_json::from_str(&body).unwrap();
            body["event"].as_str().unwrap().to_owned()
        };
        bodies.map(event).collect()
    }
}

fn read(stream: &mut TcpStream) -> (String, String) {
    let mut all = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let wanted: usize = header(head, "content-length").parse().unwrap();
            if body.len() >= wanted {
                return (head.to_owned(), body.to_owned());
            }
        }
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "the request ended early");
        all.extend_from_slice(&chunk[..n]);
    }
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
    line.and_then(|line| line.split_once(':')).map(|(_, v)| v.trim().to_owned()).unwrap_or_default()
}

/// What another implementation says: Python's.
fn hmac(text: &str) -> String {
    let script = "import hmac,sys; print(hmac.new(sys.argv[1].encode(), sys.stdin.buffer.read(), 'sha256').hexdigest())";
    let mut python = Command::new("python3");
    python.args(["-c", script, SECRET]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

fn secret(folder: &tempfile::TempDir) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("file:{}", path.display())
}

#[test]
fn a_receiver_is_told_signed_and_again_where_it_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Receiver::start(1), Receiver::start(0));
    let hook = |port: u16, more: &str| {
        let secret = secret(&folder);
        format!(
            "[[webhooks]]\nurl = \"http://127.0.0.1:{port}/hook\"\nsecret = \"{secret}\"\n{more}\n"
        )
    };
    let with_text = "statement = \"text\"\nevents = [\"requested\"]";
    let stand = Stand::with(|options| {
        options.approvals.push_str("mode = \"ticket\"");
        options.more = hook(first.port, "") + &hook(second.port, with_text);
    });
    let token = stand.token("bot", "agents");
    let sql = "DELETE FROM payments WHERE id < 10";
    stand.sql_refused("bot", &token, sql);
    let id = stand.pending();
    stand.gateway.cli_ok(&["approvals", "approve", &id, "--reason", "why not"]).unwrap();
    stand.sql_ok("bot", &token, sql);
    wait_for("all that happened", || (first.got().len() >= 4).then_some(()));
    assert_eq!(first.events(), ["requested", "requested", "approved", "consumed"]);
    let mut ids = Vec::new();
    for (head, body) in first.got() {
        let timestamp = header(&head, "x-rowgate-timestamp");
        let wanted = format!("v1={}", hmac(&format!("{timestamp}.{body}")));
        assert_eq!(header(&head, "x-rowgate-signature"), wanted, "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(header(&head, "x-rowgate-event-id"), body["id"].as_str().unwrap());
        let approval = &body["approval"];
        assert_eq!((&approval["id"], &approval["identity"]), (&id.as_str().into(), &"bot".into()));
        let shape = approval["statement"].as_str().unwrap();
        assert!(shape.to_lowercase().starts_with("delete from payments where id < ?"), "{shape}");
        ids.push(body["id"].clone());
    }
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
    let told = second.got();
    assert_eq!(second.events(), ["requested"]);
    assert!(told[0].1.contains(sql), "{}", told[0].1);
}

/// Presses a button as Slack does; the status.
fn press(site: &str, timestamp: i64, signed: &str, body: &str) -> u16 {
    let url = format!("{site}/slack/actions");
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", body]);
    curl.args(["-H", "Content-Type: application/x-www-form-urlencoded"]);
    curl.args(["-H", &format!("X-Slack-Request-Timestamp: {timestamp}")]);
    curl.args(["-H", &format!("X-Slack-Signature: v0={signed}"), &url]);
    String::from_utf8(curl.output().unwrap().stdout).unwrap().parse().unwrap()
}

fn payload(user: &str, action: &str, id: &str) -> String {
    let payload = serde_json::json!({
        "type": "block_actions",
        "user": { "id": user },
        "actions": [{ "type": "button", "action_id": action, "value": id }],
    });
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    format!("payload={}", payload.to_string().bytes().map(escape).collect::<String>())
}

#[test]
fn buttons_in_slack_count_for_whom_they_are_mapped_to() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(0);
    let site = format!("http://127.0.0.1:{}", mariadb::free_port().unwrap());
    let more = format!(
        "{}[[webhooks]]\nurl = \"http://127.0.0.1:{}/hook\"\nsecret = \"{}\"\nformat = \"slack\"\n\
         [[webhooks.people]]\nslack = \"U0ANN\"\nidentity = \"ann\"\n\
         [[webhooks.people]]\nslack = \"U0EVE\"\nidentity = \"eve\"\n\
         [[webhooks.people]]\nslack = \"U0BOT\"\nidentity = \"bot\"\n\
         [[groups]]\nname = \"approvers\"\nmembers = [\"ann\", \"bot\"]\n",
        xtask::gateway::web_table(&site, ""),
        receiver.port,
        secret(&folder)
    );
    let stand = Stand::with(|options| options.more = more);
    let token = stand.token("bot", "agents");
    let held = stand.spawn_sql("bot", &token, "DELETE FROM payments WHERE id < 10");
    let id = stand.pending();
    wait_for("the message", || (!receiver.got().is_empty()).then_some(()));
    let message: Value = serde_json::from_str(&receiver.got()[0].1).unwrap();
    let text = message.to_string();
    assert!(text.contains("bot wants to DELETE on shop") && !text.contains("id < 10"), "{text}");
    let buttons = message["blocks"].as_array().unwrap().last().unwrap()["elements"].clone();
    assert_eq!(
        (&buttons[0]["action_id"], &buttons[0]["value"]),
        (&"approve".into(), &id.as_str().into())
    );
    assert_eq!(buttons[2]["url"], format!("{site}/approvals/{id}"));

    let now = || jiff::Timestamp::now().as_second();
    let sign = |at: i64, body: &str| hmac(&format!("v0:{at}:{body}"));
    // Nobody, not an approver, the requester, no signature, an old one.
    for (user, status) in [("U0STRANGER", 403), ("U0EVE", 403), ("U0BOT", 403)] {
        let (at, body) = (now(), payload(user, "approve", &id));
        assert_eq!(press(&site, at, &sign(at, &body), &body), status, "{user}");
    }
    let body = payload("U0ANN", "approve", &id);
    assert_eq!(press(&site, now(), &"0".repeat(64), &body), 401);
    let old = now() - 600;
    assert_eq!(press(&site, old, &sign(old, &body), &body), 401);
    assert_eq!(stand.pending(), id, "nothing of that counted");
    let at = now();
    let signed = sign(at, &body);
    assert_eq!(press(&site, at, &signed, &body), 200);
    assert!(held.wait_with_output().unwrap().status.success());
    assert_eq!(press(&site, at, &signed, &body), 401, "a press counts once");
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "50"]).unwrap();
    assert!(record.contains(&format!("{id}  approved  by ann in Slack")), "{record}");
}
