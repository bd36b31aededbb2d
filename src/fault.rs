//! The one error vocabulary: which side is at fault (also the metric label), the MySQL error code
//! and SQLSTATE, and the text that a client may see. What a client sees comes only from here.

/// Whose fault it was. Closed: each is a value of the metric label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The client broke the protocol.
    Protocol,
    /// A login was refused.
    Login,
    /// Too many logins, connections, or bytes: a limit was reached.
    Limit,
    /// A command or a feature that Rowgate refuses by name.
    Unsupported,
    /// The statement could not be understood well enough to be let through.
    Analysis,
    /// Policy denied it.
    Policy,
    /// It waits for approval as a ticket, was denied by an approver, or its request expired.
    Approval,
    /// A plugin trapped, ran out of its limits, or answered nonsense.
    Plugin,
    /// The record could not be written.
    Audit,
    /// The database is down, broke the protocol, or refused the gateway's account.
    Upstream,
    /// The gateway is draining.
    Shutdown,
    /// A defect of ours.
    Internal,
}

impl FaultKind {
    /// Every kind, for metrics to declare their children at start.
    pub const ALL: [Self; 12] = [
        Self::Protocol,
        Self::Login,
        Self::Limit,
        Self::Unsupported,
        Self::Analysis,
        Self::Policy,
        Self::Approval,
        Self::Plugin,
        Self::Audit,
        Self::Upstream,
        Self::Shutdown,
        Self::Internal,
    ];

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Login => "login",
            Self::Limit => "limit",
            Self::Unsupported => "unsupported",
            Self::Analysis => "analysis",
            Self::Policy => "policy",
            Self::Approval => "approval",
            Self::Plugin => "plugin",
            Self::Audit => "audit",
            Self::Upstream => "upstream",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }
}

/// The longest text that the stock clients' libraries keep of an error (`MYSQL_ERRMSG_SIZE`, its NUL left out).
const MAX_TEXT: usize = 511;

/// An error as the client will see it. Never holds secrets or cell values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({}): {message}", std::str::from_utf8(.sqlstate).unwrap_or("HY000"))]
pub struct Fault {
    /// Whose fault.
    pub kind: FaultKind,
    /// The MySQL error number.
    pub code: u16,
    /// The five bytes of SQLSTATE.
    pub sqlstate: [u8; 5],
    /// The text, in the form `Rowgate [RG-…]: what happened; what to do`.
    pub message: String,
}

impl Fault {
    /// Any fault; prefer the named constructors.
    pub fn new(kind: FaultKind, code: u16, sqlstate: [u8; 5], message: impl Into<String>) -> Self {
        Self { kind, code, sqlstate, message: message.into() }
    }

    /// 1045/28000, the one text for every failed login. `user` and `host` are echoed as MySQL does.
    pub fn access_denied(user: &str, host: &str) -> Self {
        let text = format!("Access denied for user '{user}'@'{host}' (using password: YES)");
        Self::new(FaultKind::Login, 1045, *b"28000", text)
    }

    /// 1231/42000: text would be read otherwise from now on, which ends the session. `text` says what changed.
    pub fn reads_otherwise(text: &str) -> Self {
        Self::new(FaultKind::Analysis, 1231, *b"42000", format!("Rowgate [RG-MODE]: {text}"))
    }

    /// 1045/28000: what a live session rests on has expired, or is no longer configured.
    pub fn login_ended() -> Self {
        let text = "Rowgate [RG-LOGIN]: this session's login has ended; log in anew";
        Self::new(FaultKind::Login, 1045, *b"28000", text)
    }

    /// 1045/28000: what a live session rests on was revoked.
    pub fn revoked() -> Self {
        let text = "Rowgate [RG-LOGIN]: this session's login was revoked";
        Self::new(FaultKind::Login, 1045, *b"28000", text)
    }

    /// 1105/HY000: the target of a live session was taken out of the gateway.
    pub fn target_removed() -> Self {
        let text = "Rowgate [RG-TARGET]: this database was taken out of the gateway; ask its administrator";
        Self::new(FaultKind::Shutdown, 1105, *b"HY000", text)
    }

    /// 1159/08S01: the login took too long.
    pub fn login_timeout() -> Self {
        let text = "Rowgate [RG-LOGIN]: the login took too long";
        Self::new(FaultKind::Login, 1159, *b"08S01", text)
    }

    /// 4031/HY000, as MySQL says it: the client has said nothing for too long.
    pub fn idle_timeout() -> Self {
        let text = "Rowgate [RG-IDLE]: the session was ended, since nothing was asked of it for server.idle_timeout_s";
        Self::new(FaultKind::Limit, 4031, *b"HY000", text)
    }

    /// 3024/HY000, as MySQL says it: the statement took too long.
    pub fn statement_timeout() -> Self {
        let text = "Rowgate [RG-TIMEOUT]: the statement took longer than this target's statement_timeout_s; \
                    it was ended, and the session with it";
        Self::new(FaultKind::Limit, 3024, *b"HY000", text)
    }

    /// 1317/70100: ended by hand.
    pub fn killed() -> Self {
        let text = "Rowgate [RG-KILLED]: the session was ended by an administrator";
        Self::new(FaultKind::Shutdown, 1317, *b"70100", text)
    }

    /// 1040/08004: a limit of connections or logins was reached.
    pub fn too_many(what: &str) -> Self {
        Self::new(
            FaultKind::Limit,
            1040,
            *b"08004",
            format!("Rowgate [RG-LIMIT]: too many {what}; try again later"),
        )
    }

    /// 1047/08S01: a command that Rowgate does not let through, by name.
    pub fn unsupported_command(name: &str) -> Self {
        Self::new(
            FaultKind::Unsupported,
            1047,
            *b"08S01",
            format!("Rowgate [RG-COMMAND]: {name} is refused"),
        )
    }

    /// 1235/42000: a feature that is refused.
    pub fn unsupported(what: &str) -> Self {
        Self::new(
            FaultKind::Unsupported,
            1235,
            *b"42000",
            format!("Rowgate [RG-UNSUPPORTED]: {what}"),
        )
    }

    /// 1156/08S01: packets out of order, or malformed.
    pub fn protocol(what: &str) -> Self {
        Self::new(FaultKind::Protocol, 1156, *b"08S01", format!("Rowgate [RG-PROTOCOL]: {what}"))
    }

    /// 1064/42000: the statement could not be understood.
    pub fn analysis(what: &str) -> Self {
        Self::new(FaultKind::Analysis, 1064, *b"42000", format!("Rowgate [RG-ANALYSIS]: {what}"))
    }

    /// A name that the catalogue doesn't have, by the server's own code for it.
    pub fn unknown_name((code, sqlstate): (u16, [u8; 5]), what: &str) -> Self {
        let text = format!("Rowgate [RG-ANALYSIS]: {what}");
        Self::new(FaultKind::Analysis, code, sqlstate, text)
    }

    /// 1142/42000: denied by a rule.
    pub fn denied(rule: &str, message: &str) -> Self {
        Self::new(
            FaultKind::Policy,
            1142,
            *b"42000",
            format!("Rowgate [RG-DENIED] rule {rule}: {message}"),
        )
    }

    /// 1142/42000: nobody permitted that the statement is on behalf of whom its client names.
    pub fn on_behalf(message: &str) -> Self {
        let text = format!("Rowgate [RG-BEHALF]: {message}");
        Self::new(FaultKind::Policy, 1142, *b"42000", text)
    }

    /// 1644/45000: the statement needs approval and did not get it (ticket, denial, expiry). What programs read stands in
    /// front of the first `": "`, as ` key=value` each, without white space in them; the words behind it are cut to what
    /// clients show.
    pub fn approval(code: &str, fields: &[(&str, &str)], words: &str) -> Self {
        let mut text = format!("Rowgate [{code}]");
        for (key, value) in fields {
            text.extend([" ", key, "=", value]);
        }
        text.push_str(": ");
        let room = MAX_TEXT.saturating_sub(text.len());
        if words.len() <= room {
            text.push_str(words);
        } else {
            let end = words.floor_char_boundary(room.saturating_sub("…".len()));
            text.push_str(words.get(..end).unwrap_or_default());
            text.push('…');
        }
        Self::new(FaultKind::Approval, 1644, *b"45000", text)
    }

    /// 3100/HY000: a plugin failed, so nothing was released.
    pub fn plugin(what: &str) -> Self {
        Self::new(
            FaultKind::Plugin,
            3100,
            *b"HY000",
            format!("Rowgate [RG-PLUGIN]: {what}; nothing was released"),
        )
    }

    /// 3101/HY000: the record cannot be written, so nothing runs.
    pub fn audit(what: &str) -> Self {
        Self::unrecorded(what, "the statement was not run")
    }

    /// 3101/HY000: the record of a read could not be written while the database worked, so nothing is shown.
    pub fn audit_withheld(what: &str) -> Self {
        Self::unrecorded(what, "the result was withheld")
    }

    fn unrecorded(what: &str, outcome: &str) -> Self {
        let text = format!("Rowgate [RG-AUDIT]: {what}; {outcome}");
        Self::new(FaultKind::Audit, 3101, *b"HY000", text)
    }

    /// 1158/08S01: the database went away, or broke the protocol. (Not 2013: that is a client's own number, and
    /// MariaDB's client takes a server that sends one for broken.)
    pub fn upstream_lost(what: &str) -> Self {
        Self::new(FaultKind::Upstream, 1158, *b"08S01", format!("Rowgate [RG-UPSTREAM]: {what}"))
    }

    /// 1429/08001: the database can't be reached or refused the gateway.
    pub fn upstream_down(what: &str) -> Self {
        Self::new(FaultKind::Upstream, 1429, *b"08001", format!("Rowgate [RG-UPSTREAM]: {what}"))
    }

    /// 1053/08S01: the gateway is draining.
    pub fn shutdown() -> Self {
        Self::new(FaultKind::Shutdown, 1053, *b"08S01", "Server shutdown in progress")
    }

    /// 1105/HY000: a defect of ours; the text says nothing else.
    pub fn internal() -> Self {
        Self::new(
            FaultKind::Internal,
            1105,
            *b"HY000",
            "Rowgate [RG-INTERNAL]: an internal error; see the gateway's log",
        )
    }
}
