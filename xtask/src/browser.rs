//! As much of a browser as signing in takes: cookies, redirects and forms, on loopback, over plain HTTP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// A server that says nothing for so long says nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// The cookies that it was given, by port and name.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    cookies: BTreeMap<(u16, String), String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is.
    pub url: String,
    pub status: u16,
    /// Its headers, as they came.
    pub head: String,
    pub body: String,
}

impl Page {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    fn headers<'p>(&'p self, name: &str) -> impl Iterator<Item = &'p str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The value of the first field of this name in a form.
    pub fn field(&self, name: &str) -> Option<String> {
        let (_, rest) = self.body.split_once(&format!("name=\"{name}\" value=\""))?;
        let (value, _) = rest.split_once('"')?;
        let plain = value.replace("&quot;", "\"").replace("&#039;", "'").replace("&lt;", "<");
        Some(plain.replace("&gt;", ">").replace("&amp;", "&"))
    }
}

impl Browser {
    /// Opens a page, without following where it leads to.
    pub fn open(&mut self, url: &str) -> Result<Page> {
        self.ask(url, None, "")
    }

    /// Opens a page, and goes where it leads to.
    pub fn go(&mut self, url: &str) -> Result<Page> {
        let page = self.open(url)?;
        self.follow(page)
    }

    /// Sends a form. `headers`: those besides, as lines.
    pub fn send(&mut self, url: &str, fields: &[(&str, &str)], headers: &str) -> Result<Page> {
        let pairs =
            fields.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
        self.ask(url, Some(&pairs.collect::<Vec<_>>().join("&")), headers)
    }

    /// Goes where a page leads to.
    pub fn follow(&mut self, mut page: Page) -> Result<Page> {
        for _ in 0..MAX_REDIRECTS {
            let Some(to) = page.header("location").filter(|_| page.status / 100 == 3) else {
                return Ok(page);
            };
            let to = if to.starts_with('/') {
                let (_, port, _) = parts(&page.url)?;
                format!("http://127.0.0.1:{port}{to}")
            } else {
                to.to_owned()
            };
            page = self.open(&to)?;
        }
        bail!("{} leads nowhere", page.url)
    }

    /// The cookie of this name, for this port.
    pub fn cookie(&self, port: u16, name: &str) -> Option<&str> {
        self.cookies.get(&(port, name.to_owned())).map(String::as_str)
    }

    fn ask(&mut self, url: &str, form: Option<&str>, headers: &str) -> Result<Page> {
        let (host, port, path) = parts(url)?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let method = if form.is_some() { "POST" } else { "GET" };
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n{headers}");
        let own = self.cookies.iter().filter(|((of, _), _)| *of == port);
        let cookies: Vec<_> = own.map(|((_, name), value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        if let Some(form) = form {
            let length = form.len();
            request.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
            request.push_str(&format!("Content-Length: {length}\r\n\r\n{form}"));
        } else {
            request.push_str("\r\n");
        }
        // Who refuses a long form may have hung up before all of it was sent.
        let sent = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            sent?;
            read?;
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let page = Page { url: url.to_owned(), status, head: head.into(), body: body.into() };
        for cookie in page.headers("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("no cookie")?;
            self.cookies.insert((port, name.to_owned()), value.to_owned());
        }
        Ok(page)
    }
}

/// Host, port and path.
fn parts(url: &str) -> Result<(&str, u16, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not for here"))?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    Ok((host, port.context("no port")?, if path.is_empty() { "/" } else { path }))
}

/// Escapes for a query or a form.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut out = String::new();
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
