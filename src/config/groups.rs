//! `[[groups]]`: who is in which group of the policies, whoever vouches for them; and the rules by which groups of elsewhere
//! become groups here.

use std::collections::{BTreeMap, HashSet};

use super::Config;
use super::check::{Checked, complain};
use super::parse::Step;

/// Longest name of a group or of an identity: what MySQL's own clients send at most, less the one length that they cut at.
const MAX_NAME: usize = 95;

/// A group, and its members by name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What policies call it.
    pub name: String,
    /// Identities that are in it, beside those who come with it.
    pub members: Vec<String>,
}

/// Checks all of them.
pub(super) fn groups(config: &Config) -> Checked {
    use Step::{At, Key};
    let mut names = HashSet::new();
    for (at, group) in config.groups.iter().enumerate() {
        let path = |key| vec![Key("groups"), At(at), Key(key)];
        if !is_name(&group.name) {
            let what = format!("{:?} is no name of a group", group.name);
            return complain(&path("name"), what, "write it as policies do: Group::\"name\"");
        }
        if !names.insert(&group.name) {
            let what = format!("{:?} is listed twice", group.name);
            return complain(&path("name"), what, "put its members under one");
        }
        let mut seen = HashSet::new();
        for (index, member) in group.members.iter().enumerate() {
            let place = [path("members"), vec![At(index)]].concat();
            if !is_name(member) || member.contains(';') {
                let what = format!("{member:?} is no name of an identity");
                let mend = "write it as the record has it, without ; and what follows";
                return complain(&place, what, mend);
            }
            if !seen.insert(member) {
                return complain(&place, format!("{member:?} is listed twice"), "once is enough");
            }
        }
    }
    Ok(())
}

/// Checks `group_names`: what of elsewhere is which group here.
pub(super) fn group_names(path: &[Step], of: &BTreeMap<String, String>) -> Checked {
    for (theirs, ours) in of {
        if theirs.is_empty() || theirs.strip_suffix('*').unwrap_or(theirs).contains('*') {
            let what = format!("{theirs:?} is no name of a group there");
            let mend = "write it as it is listed, or its beginning with one * behind";
            return complain(path, what, mend);
        }
        if !is_name(ours) {
            let what = format!("{ours:?} is no name of a group");
            return complain(path, what, "write it as policies do: Group::\"name\"");
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}
