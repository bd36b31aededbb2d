//! As much of a browser as the pages' tests need: cookies of a host, redirections, forms. It believes what it is told to
//! say, so that attacks can be tried.

use std::collections::BTreeMap;

use reqwest::{Client, Method, StatusCode, Url, redirect};

/// A browser with its cookies.
pub(crate) struct Browser {
    client: Client,
    runtime: tokio::runtime::Runtime,
    /// By name; all hosts here are one.
    pub(crate) cookies: BTreeMap<String, String>,
}

/// What came.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) url: String,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Page {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of the first field of this name.
    pub(crate) fn field(&self, name: &str) -> String {
        let (_, rest) = self.body.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        rest.split('"').next().unwrap().replace("&amp;", "&")
    }

    /// Where it leads by itself.
    fn refresh(&self) -> Option<String> {
        let (_, rest) = self.body.split_once("http-equiv=\"refresh\" content=\"0; url=")?;
        Some(rest.split('"').next().unwrap().replace("&amp;", "&"))
    }
}

impl Browser {
    pub(crate) fn new() -> Self {
        let builder = Client::builder().redirect(redirect::Policy::none());
        let client = builder.tls_danger_accept_invalid_certs(true).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client, runtime, cookies: BTreeMap::new() }
    }

    /// One request, with these headers.
    pub(crate) fn ask(
        &mut self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> Page {
        let mut request = self.client.request(method.clone(), url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if let Some(form) = form {
            let mut encoded = Url::parse("http://form/").unwrap();
            encoded.query_pairs_mut().extend_pairs(form);
            request = request.header("content-type", "application/x-www-form-urlencoded");
            request = request.body(encoded.query().unwrap_or_default().to_owned());
        }
        let page = self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let (status, url) = (answer.status(), answer.url().to_string());
            let headers = answer.headers().clone();
            Page { status, url, headers, body: answer.text().await.unwrap() }
        });
        for cookie in page.headers.get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        page
    }

    /// One GET.
    pub(crate) fn get(&mut self, url: &str) -> Page {
        self.ask(&Method::GET, url, &[], None)
    }

    /// Sends a form, as a page of this site would.
    pub(crate) fn post(&mut self, url: &str, form: &[(&str, &str)]) -> Page {
        let origin = Url::parse(url).unwrap().origin().ascii_serialization();
        let headers = [("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
        self.ask(&Method::POST, url, &headers, Some(form))
    }

    /// Goes on for as long as the page leads on.
    pub(crate) fn follow(&mut self, mut page: Page) -> Page {
        for _ in 0..12 {
            let location = page.header("location");
            let to = if location.is_empty() { page.refresh() } else { Some(location.to_owned()) };
            let Some(to) = to else { return page };
            let url = Url::parse(&page.url).unwrap().join(&to).unwrap();
            page = self.get(url.as_str());
        }
        panic!("it leads on for ever: {}", page.url);
    }

    /// Signs in as this person at the tests' provider; the page at the end.
    pub(crate) fn sign_in(&mut self, site: &str, name: &str) -> Page {
        let back = self.come_back(site, name);
        let page = self.get(&back);
        self.follow(page)
    }

    /// Signs in at the provider, and stops before its answer is brought; the answer.
    pub(crate) fn come_back(&mut self, site: &str, name: &str) -> String {
        let page = self.get(&format!("{site}/sign-in/oidc/idp"));
        assert_eq!(page.status, 303, "{}", page.body);
        self.at_provider(&page, &[("name", name)])
    }

    /// Answers the provider's question; where it then leads to.
    pub(crate) fn at_provider(&mut self, page: &Page, form: &[(&str, &str)]) -> String {
        let mut next = page.header("location").to_owned();
        loop {
            if next.contains("/callback?") {
                return next;
            }
            let page = self.get(&next);
            let page =
                if page.body.contains("Who are you?") { self.post(&next, form) } else { page };
            let to = page.header("location");
            assert!(!to.is_empty(), "{next}: {}: {}", page.status, page.body);
            next = Url::parse(&next).unwrap().join(to).unwrap().into();
        }
    }
}
