//! The stylesheet, the script and the icon: compiled in, served from this site, named by their contents so that browsers
//! may keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::page::PageError;

pub(super) struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    digest: LazyLock<String>,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset {
            name: $name,
            kind: $kind,
            text: include_str!(concat!("assets/", $name)),
            digest: LazyLock::new(|| digest(include_str!(concat!("assets/", $name)))),
        }
    };
}

pub(super) static STYLE: Asset = asset!("style.css", "text/css; charset=utf-8");
pub(super) static SCRIPT: Asset = asset!("pages.js", "text/javascript; charset=utf-8");
pub(super) static ICON: Asset = asset!("icon.svg", "image/svg+xml");

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

impl Asset {
    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("/assets/{}/{}", *self.digest, self.name)
    }
}

pub(super) async fn serve(Path((of, name)): Path<(String, String)>) -> Result<Response, PageError> {
    let all = [&STYLE, &SCRIPT, &ICON];
    let found = all.into_iter().find(|asset| asset.name == name && *asset.digest == of);
    let asset = found.ok_or_else(PageError::not_found)?;
    let keep = "public, max-age=31536000, immutable";
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, keep)];
    Ok((headers, asset.text).into_response())
}
