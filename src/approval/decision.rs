//! What became of a request, and how its client is told: an error text that a program can take apart.

use crate::fault::Fault;

/// Seconds after which a client may ask again by sending its statement: a person takes longer, and a fleet of agents
/// that asks no sooner is no load.
const POLL_S: &str = "5";

/// What became of a request, for its requester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run it, now: the grant is used up.
    Approved {
        /// The request.
        id: String,
        /// The approvers.
        by: Vec<String>,
    },
    /// An approver said no.
    Denied {
        /// The request.
        id: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Nobody decided in time.
    Expired {
        /// The request.
        id: String,
    },
    /// Ask for the decision later by sending the same statement again.
    Ticket {
        /// The request.
        id: String,
    },
    /// Called off by its owner or an administrator.
    Cancelled {
        /// The request.
        id: String,
    },
    /// More are pending than the configuration allows.
    Full,
    /// The store or the record failed: nothing was granted.
    Unavailable,
}

impl Decision {
    /// The error for the client; `None` where the statement may run. `pages` is where the gateway's pages are.
    pub fn fault(&self, pages: Option<&str>) -> Option<Fault> {
        let of = |code: &str, id: &str, words: &str| Fault::approval(code, &[("id", id)], words);
        Some(match self {
            Self::Approved { .. } => return None,
            Self::Denied { id, by, reason } if reason.is_empty() => {
                of("RG-REFUSED", id, &format!("denied by {by}"))
            }
            Self::Denied { id, by, reason } => {
                of("RG-REFUSED", id, &format!("denied by {by}: {reason}"))
            }
            Self::Expired { id } => {
                of("RG-EXPIRED", id, "nobody decided in time; send the statement again to ask anew")
            }
            Self::Ticket { id } => ticket(id, pages),
            Self::Cancelled { id } => {
                of("RG-CANCELLED", id, "called off; send the statement again to ask anew")
            }
            Self::Full => {
                let words = "too many statements wait for approval; try again later";
                Fault::approval("RG-BUSY", &[("poll_s", POLL_S)], words)
            }
            Self::Unavailable => {
                let words = "approvals can't be asked for now; see the gateway's log";
                Fault::approval("RG-UNAVAILABLE", &[("poll_s", POLL_S)], words)
            }
        })
    }
}

fn ticket(id: &str, pages: Option<&str>) -> Fault {
    let words = "this statement waits for approval; send the same statement again, and it runs once it is approved";
    let url = pages.map(|pages| page_of(pages, id));
    let mut fields = vec![("id", id), ("poll_s", POLL_S)];
    fields.extend(url.as_deref().map(|url| ("url", url)));
    Fault::approval("RG-TICKET", &fields, words)
}

/// What an approval of a request would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outlook {
    /// Its client waits on the line: it runs at once.
    pub waits: bool,
    /// How many approvals it takes.
    pub missing: usize,
    /// If no client waits: microseconds since the epoch, until when it runs once, when it is sent again.
    pub grant_until_us: i64,
}

/// The page of a request.
pub fn page_of(pages: &str, id: &str) -> String {
    format!("{pages}/approvals/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(decision: &Decision, pages: Option<&str>) -> String {
        decision.fault(pages).unwrap().message
    }

    #[test]
    fn a_ticket_has_all_that_it_takes_to_come_back() {
        let ticket = Decision::Ticket { id: "apr_1".into() };
        let words = ": this statement waits for approval; send the same statement again, and it runs once it is approved";
        let plain = format!("Rowgate [RG-TICKET] id=apr_1 poll_s=5{words}");
        assert_eq!(told(&ticket, None), plain);
        let url = " url=https://gate.example:8443/approvals/apr_1";
        let whole = format!("Rowgate [RG-TICKET] id=apr_1 poll_s=5{url}{words}");
        assert_eq!(told(&ticket, Some("https://gate.example:8443")), whole);
    }

    #[test]
    fn a_reason_is_cut_and_nothing_else() {
        let denied = |reason: &str| {
            let (id, by) = ("apr_1".into(), "dana".into());
            told(&Decision::Denied { id, by, reason: reason.into() }, None)
        };
        assert_eq!(denied("no"), "Rowgate [RG-REFUSED] id=apr_1: denied by dana: no");
        let long = denied(&"ü".repeat(1_000));
        assert!(long.starts_with("Rowgate [RG-REFUSED] id=apr_1: denied by dana: üü"), "{long}");
        assert!(long.ends_with("ü…") && (508..=511).contains(&long.len()), "{}", long.len());
    }
}
