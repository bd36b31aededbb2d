//! The names that a statement gives: which the server takes as they are written.

use sqlparser::ast::{Ident, Select, SelectItem};

use super::Found;
use crate::sql::facts::Unknown;

/// The names that a SELECT gives its outputs.
pub(super) fn aliases(select: &Select) -> Vec<String> {
    let alias = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        _ => None,
    };
    select.projection.iter().filter_map(alias).collect()
}

/// A column's alias, if the server takes it as it is written: it drops what stands before the first character that
/// shows, and knows other escapes in strings than the parser does.
pub(super) fn written(alias: &Ident) -> Found<String> {
    let name = &alias.value;
    let shows = |c: char| c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
    let escapes = matches!(alias.quote_style, Some('\'' | '"')) && {
        let plain =
            |c: char| c.is_alphanumeric() || (c.is_ascii_graphic() && c != '\\') || c == ' ';
        !name.chars().all(plain)
    };
    if escapes || !name.chars().next().is_some_and(shows) {
        return Err(Unknown::Name(name.chars().take(64).collect()));
    }
    Ok(name.clone())
}
