//! One Cedar policy as a rule of ours: its id and what its annotations ask for.

use cedar_policy::{ActionConstraint, Effect, Policy};

use super::MaskSpec;
use super::control::{Names, names};
use super::shown::WRITE_BACK;
use super::vocabulary::Action;
use crate::config::ApprovalMode;

/// Longest `@message`: it travels in an error packet, of which clients show some 500 bytes.
const MAX_MESSAGE: usize = 400;

/// Longest `@id`: it is a metric's and a record's field.
const MAX_ID: usize = 64;

/// Most approvers that a rule may ask for: more people than that are never awake at once.
const MAX_APPROVERS: u8 = 16;

/// Ids that verdicts use when no policy of the operator decided.
pub(super) const RESERVED: [&str; 11] = [
    "analysis",
    "approval-conflict",
    "cedar-error",
    "default-deny",
    "default-redact",
    "masked-explain",
    "masked-use",
    "not-ready",
    SPEAKS_FOR,
    "refused-verb",
    WRITE_BACK,
];

/// The id by which a statement is refused whose client may not say on whose behalf it is.
pub const SPEAKS_FOR: &str = "on-behalf-of";

/// Who must approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Approve {
    /// Empty: the configuration's default.
    pub(super) groups: Vec<String>,
    pub(super) approvers: u8,
}

/// What a policy's annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) message: Option<String>,
    pub(super) approve: Option<Approve>,
    /// How the client waits for them, where the rule says so.
    pub(super) mode: Option<ApprovalMode>,
    pub(super) mask: Option<MaskSpec>,
    pub(super) passthrough: bool,
    /// The action, where the policy names exactly one.
    pub(super) only: Option<Action>,
    /// It is about the gateway itself, and not about statements.
    pub(super) control: bool,
}

/// What is wrong with a policy's annotations, and the mend.
pub(super) type Complaint = (String, &'static str);

impl Rule {
    /// Reads the annotations of `policy`, whose `@id` is known.
    pub(super) fn read(id: &str, policy: &Policy) -> Result<Self, Complaint> {
        let mut rule = Self {
            id: id.to_owned(),
            message: None,
            approve: None,
            mode: None,
            mask: None,
            passthrough: false,
            only: only_action(policy),
            control: names(policy) == Names::Only,
        };
        for (key, value) in policy.annotations() {
            match key {
                "id" => {}
                "message" => rule.message = Some(message(value)?),
                "approve" => rule.approve = Some(Approve::parse(value)?),
                "mode" => rule.mode = Some(mode(value)?),
                "mask" => {
                    let mask = MaskSpec::parse(value)
                        .map_err(|why| (format!("@mask(\"{value}\"): {why}"), "mend the mask"))?;
                    rule.mask = Some(mask);
                }
                "passthrough" => rule.passthrough = true,
                other => {
                    return Err((
                        format!("unknown annotation @{other}"),
                        "use @id, @message, @mask, @approve, @mode or @passthrough",
                    ));
                }
            }
        }
        rule.fits(policy)?;
        Ok(rule)
    }

    /// What the client or the approver is told.
    pub(super) fn text(&self) -> &str {
        self.message.as_deref().unwrap_or("a policy forbids this")
    }

    /// Annotations stand where they mean something; elsewhere they would be a hope that nothing fulfils.
    fn fits(&self, policy: &Policy) -> Result<(), Complaint> {
        let forbids = policy.effect() == Effect::Forbid;
        let only = self.only;
        let complain = |what: &str, mend| Err((what.to_owned(), mend));
        if names(policy) == Names::Mixed {
            return complain(
                "it names actions on the gateway itself beside those on data",
                "split the policy in two",
            );
        }
        if self.control && self.approve.is_some() {
            return complain("@approve has no effect on these actions", "leave it out");
        }
        if self.mask.is_some() && !(forbids && only == Some(Action::Reveal)) {
            return complain(
                "@mask stands on a policy that does not forbid reveal",
                "write forbid (principal, action == Action::\"reveal\", resource)",
            );
        }
        if self.approve.is_some() && !forbids {
            return complain("@approve stands on a permit", "put it on a forbid");
        }
        if self.mode.is_some() && self.approve.is_none() {
            return complain("@mode stands without @approve", "put both on one forbid");
        }
        if self.approve.is_some() && self.mask.is_some() {
            return complain("@approve and @mask exclude each other", "split the policy in two");
        }
        if self.passthrough != (!forbids && only == Some(Action::Passthrough)) {
            return complain(
                "@passthrough belongs on each permit of exactly the action passthrough",
                "write @passthrough permit (…, action == Action::\"passthrough\", …)",
            );
        }
        Ok(())
    }
}

impl Approve {
    /// `"dba,security,2"`: groups, then how many approvers (1 where none is given).
    fn parse(text: &str) -> Result<Self, Complaint> {
        let wrong = |why: &str| {
            (format!("@approve(\"{text}\"): {why}"), "write groups and a number, as in \"dba,2\"")
        };
        let mut approve = Self { groups: Vec::new(), approvers: 1 };
        let mut parts = text.split(',').map(str::trim).peekable();
        while let Some(part) = parts.next() {
            if let (Ok(number), None) = (part.parse::<u8>(), parts.peek()) {
                if !(1..=MAX_APPROVERS).contains(&number) {
                    return Err(wrong("the number of approvers is 1 to 16"));
                }
                approve.approvers = number;
            } else if part.is_empty() || part.chars().all(|c| c.is_ascii_digit()) {
                return Err(wrong("a group has no name"));
            } else {
                approve.groups.push(part.to_owned());
            }
        }
        Ok(approve)
    }
}

/// Whether `id` can be a rule's name; the error is the complaint.
pub(super) fn check_id(id: &str) -> Result<(), Complaint> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.len() > MAX_ID || !id.chars().all(allowed) {
        return Err((
            format!("@id(\"{}\") is no name", id.escape_debug()),
            "use letters, digits, - _ and . (64 at most)",
        ));
    }
    if RESERVED.contains(&id) {
        return Err((format!("@id(\"{id}\") is Rowgate's own"), "choose another"));
    }
    Ok(())
}

fn mode(text: &str) -> Result<ApprovalMode, Complaint> {
    ApprovalMode::from_word(text).ok_or_else(|| {
        let what = format!("@mode(\"{}\") is no mode", text.escape_debug());
        (what, "write \"wait\", \"ticket\" or \"wait-then-ticket\"")
    })
}

fn message(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.len() > MAX_MESSAGE || text.chars().any(char::is_control) {
        return Err((
            "@message is empty, longer than 400 bytes, or has control characters".to_owned(),
            "write one plain line",
        ));
    }
    Ok(text.to_owned())
}

/// The action, where the scope names exactly one.
fn only_action(policy: &Policy) -> Option<Action> {
    let uid = match policy.action_constraint() {
        ActionConstraint::Eq(uid) => uid,
        ActionConstraint::In(mut uids) if uids.len() == 1 => uids.pop()?,
        _ => return None,
    };
    Action::ALL.into_iter().find(|action| action.as_str() == uid.id().unescaped())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rule, Complaint> {
        Rule::read("r", &Policy::parse(None, text).unwrap())
    }

    #[test]
    fn annotations_are_read() {
        let rule = read(
            "@id(\"r\") @message(\"m\") @approve(\"dba, sec ,2\") forbid(principal, action, resource);",
        );
        let rule = rule.unwrap();
        assert_eq!(rule.message.as_deref(), Some("m"));
        let wanted = Approve { groups: vec!["dba".into(), "sec".into()], approvers: 2 };
        assert_eq!(rule.approve, Some(wanted));
        assert_eq!(rule.mode, None);
        let rule = read("@approve(\"a\") @mode(\"wait\") forbid(principal, action, resource);");
        assert_eq!(rule.unwrap().mode, Some(ApprovalMode::Wait));
        let rule =
            read("@mask(\"hash\") forbid(principal, action == Action::\"reveal\", resource);");
        assert_eq!(rule.unwrap().mask.unwrap().to_string(), "hash");
    }

    #[test]
    fn annotations_in_the_wrong_place() {
        for (text, wanted) in [
            ("@colour(\"x\") permit(principal, action, resource);", "@colour"),
            (
                "@mask(\"redact\") permit(principal, action == Action::\"reveal\", resource);",
                "@mask",
            ),
            ("@mask(\"redact\") forbid(principal, action, resource);", "@mask"),
            ("@mask(\"a b\") forbid(principal, action == Action::\"reveal\", resource);", "@mask"),
            ("@approve(\"dba\") permit(principal, action, resource);", "@approve"),
            ("@mode(\"ticket\") forbid(principal, action, resource);", "@mode stands without"),
            (
                "@approve(\"dba\") @mode(\"later\") forbid(principal, action, resource);",
                "@mode(\"later\")",
            ),
            ("@approve(\"dba,0\") forbid(principal, action, resource);", "@approve"),
            ("@approve(\"dba,2,x\") forbid(principal, action, resource);", "@approve"),
            ("@approve(\"\") forbid(principal, action, resource);", "@approve"),
            (
                "@approve(\"a\") @mask(\"redact\") forbid(principal, action == Action::\"reveal\", resource);",
                "exclude",
            ),
            ("@passthrough permit(principal, action, resource);", "@passthrough"),
            ("permit(principal, action == Action::\"passthrough\", resource);", "@passthrough"),
            ("@message(\"\") permit(principal, action, resource);", "@message"),
        ] {
            let (what, _) = read(text).unwrap_err();
            assert!(what.contains(wanted), "{text}: {what}");
        }
    }

    #[test]
    fn ids() {
        assert!(check_id("agents-see-cards.v2").is_ok());
        for id in ["", "a b", "cedar-error", "ü", &"x".repeat(65)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
