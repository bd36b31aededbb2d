//! The two cookies of the pages: whose session it is, and which sign-in is under way. Under HTTPS both are bound to this
//! host and to HTTPS by the `__Host-` prefix (RFC 6265bis, section 4.1.3.2), so that no neighbour can set one.

use axum::http::{HeaderMap, HeaderValue, header};

use super::WebSettings;

/// The session's. Other sites' links do not send it.
pub(super) const SESSION: Cookie = Cookie { name: "rowgate", same_site: "Strict" };

/// That of a sign-in under way: the provider's answer comes by a link of another site.
pub(super) const FLOW: Cookie = Cookie { name: "rowgate-sign-in", same_site: "Lax" };

/// That of a sign-in by SAML under way: the provider's answer comes by a form of another site, which is on HTTPS, or on this
/// machine as we are.
#[cfg(feature = "saml")]
pub(super) const SAML: Cookie = Cookie { name: "rowgate-saml", same_site: "None" };

pub(super) struct Cookie {
    name: &'static str,
    same_site: &'static str,
}

impl Cookie {
    fn name(&self, settings: &WebSettings) -> String {
        let prefix = if settings.is_https() { "__Host-" } else { "" };
        format!("{prefix}{}", self.name)
    }

    /// What the browser sent; nothing where it sent two, since one of them is not ours.
    pub(super) fn read(&self, settings: &WebSettings, headers: &HeaderMap) -> Option<String> {
        let name = self.name(settings);
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let mut own = pairs.filter(|(key, _)| key.trim() == name);
        let (_, value) = own.next()?;
        own.next().is_none().then(|| value.trim().to_owned())
    }

    /// The header that sets it, for so many seconds.
    pub(super) fn set(&self, settings: &WebSettings, value: &str, seconds: i64) -> HeaderValue {
        let (name, same_site) = (self.name(settings), self.same_site);
        let secure = if settings.is_https() { "; Secure" } else { "" };
        // (Browsers take `None` from HTTPS only.)
        let same_site = if same_site == "None" && secure.is_empty() { "Lax" } else { same_site };
        let text = format!(
            "{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={same_site}{secure}"
        );
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }

    /// The header that takes it away.
    pub(super) fn clear(&self, settings: &WebSettings) -> HeaderValue {
        self.set(settings, "", 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> WebSettings {
        WebSettings {
            url: url.into(),
            tls: None,
            idle_us: 1,
            session_us: 1,
            providers: vec![],
            doors: vec![],
            slack: Vec::new(),
            #[cfg(feature = "saml")]
            saml: vec![],
        }
    }

    fn sent(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())])
    }

    #[test]
    fn over_https_it_is_this_hosts_alone() {
        let https = settings("https://a.example");
        let set = SESSION.set(&https, "x", 60);
        let wanted = "__Host-rowgate=x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(set, wanted);
        assert_eq!(SESSION.read(&https, &sent("a=b; __Host-rowgate=x")), Some("x".into()));
        assert_eq!(SESSION.read(&https, &sent("rowgate=x")), None, "a neighbour's");
    }

    #[cfg(feature = "saml")]
    #[test]
    fn a_form_of_another_site_brings_one_and_no_other() {
        let set = |url: &str| SAML.set(&settings(url), "x", 60).to_str().unwrap().to_owned();
        assert!(set("https://a.example").ends_with("HttpOnly; SameSite=None; Secure"));
        assert!(set("http://localhost:1").ends_with("HttpOnly; SameSite=Lax"));
    }

    #[test]
    fn one_of_two_is_not_ours() {
        let http = settings("http://localhost:1");
        assert!(!SESSION.set(&http, "x", 60).to_str().unwrap().contains("Secure"));
        assert_eq!(SESSION.read(&http, &sent("rowgate=x; rowgate=y")), None);
        assert_eq!(SESSION.read(&http, &sent("rowgate-sign-in=x")), None);
    }
}
