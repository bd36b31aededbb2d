//! `[approvals]`: how held statements wait, who is asked, and who may do without being asked.

use super::Config;
use super::check::{Bound, Checked, complain, in_bounds, wide};
use super::parse::Step;

/// How the client of a held statement learns of the decision. The order is that of strictness: of several modes that are
/// asked for, the least counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalMode {
    /// It is answered with a ticket at once.
    Ticket,
    /// It waits for `wait_s`, then gets a ticket.
    #[default]
    WaitThenTicket,
    /// It waits until the request is decided or expires.
    Wait,
}

impl ApprovalMode {
    /// The mode of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "ticket" => Some(Self::Ticket),
            "wait-then-ticket" => Some(Self::WaitThenTicket),
            "wait" => Some(Self::Wait),
            _ => None,
        }
    }
}

/// `[approvals]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// How held statements wait whose rules don't say so.
    pub mode: ApprovalMode,
    /// Seconds that a held statement waits before it is answered with a ticket.
    pub wait_s: u64,
    /// Seconds that a request (or a grant not yet used) lives.
    pub expiry_s: u64,
    /// Groups asked when a rule names none.
    pub groups: Vec<String>,
    /// Requests pending at once; over it, a hold is a refusal.
    pub max_pending: usize,
    /// Groups whose members may let a request through alone, their own as well; none: nobody may.
    pub break_glass_groups: Vec<String>,
    /// The fewest characters of the reason that they must give.
    pub break_glass_reason_chars: usize,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            mode: ApprovalMode::default(),
            wait_s: 50,
            expiry_s: 900,
            groups: vec!["approvers".to_owned()],
            max_pending: 1_000,
            break_glass_groups: Vec::new(),
            break_glass_reason_chars: 20,
        }
    }
}

/// Checks the table.
pub(super) fn approvals(config: &Config) -> Checked {
    use Step::{At, Key};
    let approvals = &config.approvals;
    let (wait, expiry, month) = (approvals.wait_s, approvals.expiry_s, 30 * 86_400);
    let (pending, chars) = (wide(approvals.max_pending), wide(approvals.break_glass_reason_chars));
    let all: [Bound; 4] = [
        ("wait_s", wait, 0..=3_600, "drivers give up long before; 0 means a ticket at once"),
        ("expiry_s", expiry, wait.max(1)..=month, "from approvals.wait_s to a month"),
        ("max_pending", pending, 1..=100_000, "each waits on a live connection"),
        ("break_glass_reason_chars", chars, 1..=500, "a sentence; none would explain nothing"),
    ];
    all.iter().try_for_each(|bound| in_bounds(&[Key("approvals"), Key(bound.0)], bound))?;
    let named =
        [("groups", &approvals.groups), ("break_glass_groups", &approvals.break_glass_groups)];
    for (key, groups) in named {
        if let Some(at) = groups.iter().position(|group| group.trim().is_empty()) {
            return complain(&[Key("approvals"), Key(key), At(at)], "empty", "name a group");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, wanted) in [
            ("mode = \"wait-then-ticket\"", "mode = \"later\"", "approvals.mode"),
            ("break_glass_groups = []", "break_glass_groups = [\"\"]", "name a group"),
            ("break_glass_reason_chars = 20", "break_glass_reason_chars = 0", "1 to 500"),
        ] {
            let text = Config::SAMPLE.replace(from, to);
            assert_ne!(text, Config::SAMPLE, "{from}");
            let error = Config::parse(&text, "r.toml").unwrap_err().to_string();
            assert!(error.contains(wanted), "{to}: {error}");
        }
        let text = Config::SAMPLE.replace("\"wait-then-ticket\" ", "\"ticket\" ");
        assert_eq!(Config::parse(&text, "r").unwrap().approvals.mode, ApprovalMode::Ticket);
    }
}
