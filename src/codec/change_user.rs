//! COM_CHANGE_USER.

use nom::bytes::complete::take;
use nom::number::complete::{le_u8, le_u16};

use super::login::attributes;
use super::{Capabilities, CodecError, Parsed, front, nul_bytes, nul_text, text};

/// A change of user on a live connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeUser<'a> {
    /// The user name.
    pub user: &'a str,
    /// The answer to the last challenge.
    pub auth_response: &'a [u8],
    /// The database to go on in.
    pub schema: Option<&'a str>,
    /// The collation; absent from short forms.
    pub collation: Option<u16>,
    /// The plugin that the client answered with.
    pub plugin: Option<&'a str>,
    /// Connection attributes.
    pub attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> ChangeUser<'a> {
    /// Parses what follows the command byte, by the capabilities of the login.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, CodecError> {
        front(payload, |input| change_user(input, capabilities))
    }
}

fn change_user(input: &[u8], capabilities: Capabilities) -> Parsed<'_, ChangeUser<'_>> {
    let (rest, user) = nul_text(input, "the user name")?;
    let (rest, len) = le_u8(rest)?;
    let (rest, auth_response) = take(usize::from(len))(rest)?;
    let (rest, schema) = nul_text(rest, "the database's name")?;
    let mut change = ChangeUser {
        user,
        auth_response,
        schema: Some(schema).filter(|name| !name.is_empty()),
        collation: None,
        plugin: None,
        attributes: Vec::new(),
    };
    if rest.is_empty() {
        return Ok((rest, change));
    }
    let (mut rest, collation) = le_u16(rest)?;
    change.collation = Some(collation);
    if capabilities.has(Capabilities::PLUGIN_AUTH) && !rest.is_empty() {
        let (after, plugin) = nul_bytes(rest)?;
        change.plugin = Some(text(plugin, "the plugin's name")?);
        rest = after;
    }
    if capabilities.has(Capabilities::CONNECT_ATTRS) && !rest.is_empty() {
        let (after, all) = attributes(rest)?;
        change.attributes = all;
        rest = after;
    }
    Ok((rest, change))
}
