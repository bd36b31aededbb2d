//! A sign-in under way. All that must be remembered is one random value in the browser's cookie: the state, the nonce and
//! PKCE's verifier are made of it, so that the gateway keeps nothing, and nobody can fill it with sign-ins.
//!
//! Each of the three is bound to the provider that was asked: an answer that another one gives, or that another browser
//! brings, fits none of them.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long people have at their provider, in seconds.
pub(super) const PATIENCE_S: i64 = 600;

/// Longest place to go back to.
const MAX_PLACE: usize = 512;

/// 32 random bytes in base64url.
pub(super) fn random() -> Option<String> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    let text = URL_SAFE_NO_PAD.encode(bytes);
    zeroize::Zeroize::zeroize(&mut bytes);
    Some(text)
}

/// SHA-256 of these parts, none of which runs into the next.
pub(super) fn hash(parts: &[&str]) -> [u8; 32] {
    let mut joined = Vec::new();
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_le_bytes());
        joined.extend_from_slice(part.as_bytes());
    }
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &joined).as_ref());
    out
}

/// A sign-in by one provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flow {
    key: String,
    /// Where to go afterwards.
    pub(super) place: String,
    provider: String,
}

impl Flow {
    /// A new one. `None` when the system has no randomness to give.
    pub(super) fn begin(provider: &str, place: &str) -> Option<Self> {
        Some(Self { key: random()?, place: local(place), provider: provider.to_owned() })
    }

    /// What the cookie holds.
    pub(super) fn cookie(&self) -> String {
        format!("{}.{}", self.key, URL_SAFE_NO_PAD.encode(&self.place))
    }

    /// The one that a cookie holds, if it is one of this provider; only its answer can tell.
    pub(super) fn read(provider: &str, cookie: &str) -> Option<Self> {
        let (key, place) = cookie.split_once('.')?;
        let place = String::from_utf8(URL_SAFE_NO_PAD.decode(place).ok()?).ok()?;
        // (A whole key: one of which little is known could be tried out.)
        let is_key = URL_SAFE_NO_PAD.decode(key).is_ok_and(|bytes| bytes.len() == 32);
        let (key, provider) = (key.to_owned(), provider.to_owned());
        is_key.then(|| Self { key, place: local(&place), provider })
    }

    /// `state` (RFC 6749, section 10.12).
    pub(super) fn state(&self) -> String {
        self.derived("state")
    }

    /// `nonce` (OpenID Connect Core 1.0, section 3.1.2.1).
    pub(super) fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// `code_verifier` (RFC 7636).
    pub(super) fn verifier(&self) -> String {
        self.derived("verifier")
    }

    /// `code_challenge`, by S256.
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier().as_bytes()))
    }

    /// The id of a SAML request (an XML name) that was made since this process began, as only it knows.
    #[cfg(feature = "saml")]
    pub(super) fn request(&self, process: &str) -> String {
        format!("_{}", self.derived(&format!("request {process}")))
    }

    fn derived(&self, what: &str) -> String {
        URL_SAFE_NO_PAD.encode(hash(&["rowgate sign-in", what, &self.provider, &self.key]))
    }
}

/// A path of this site, or else its root: never another's (`//evil.example`, `/\evil.example`), and never one that a
/// header or a browser would read otherwise.
pub(super) fn local(place: &str) -> String {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>' | b'#');
    let fits = place.starts_with('/')
        && !place.starts_with("//")
        && place.len() <= MAX_PLACE
        && place.bytes().all(plain)
        // (Not back to where one signs in.)
        && !place.starts_with("/sign-")
        && !place.starts_with("/saml/");
    if fits { place.to_owned() } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_of_this_site() {
        for good in ["/", "/device?code=ABCD-EFGH", "/approvals/apr_1"] {
            assert_eq!(local(good), good);
        }
        for bad in [
            "",
            "x",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a b",
            "/a\r\nSet-Cookie: x",
            "/\"><script>",
            "/\t/evil.example",
            "/sign-out",
            "/saml/corp/login",
            "/é",
        ] {
            assert_eq!(local(bad), "/", "{bad}");
        }
        assert_eq!(local(&format!("/{}", "a".repeat(600))), "/");
    }

    #[test]
    fn a_flow_is_of_one_browser_and_one_provider() {
        let flow = Flow::begin("corp", "/tokens").unwrap();
        assert_eq!(Flow::read("corp", &flow.cookie()).unwrap(), flow);
        let other = Flow::read("other", &flow.cookie()).unwrap();
        assert_ne!((other.state(), other.nonce()), (flow.state(), flow.nonce()));
        assert_ne!(other.verifier(), flow.verifier());
        let again = Flow::begin("corp", "/tokens").unwrap();
        assert_ne!(flow.state(), again.state());
        assert_ne!(flow.nonce(), again.nonce());
        assert_ne!(flow.verifier(), again.verifier());
        let all = [flow.state(), flow.nonce(), flow.verifier(), flow.challenge()];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 4);
        assert!(all.iter().all(|text| text.len() == 43 && !text.contains(&flow.key)));
    }

    #[test]
    fn what_is_no_cookie_of_ours() {
        for bad in ["", ".", "AAAA.Lw", "x", &format!("{}.!", "A".repeat(43))] {
            assert_eq!(Flow::read("corp", bad), None, "{bad}");
        }
    }
}
