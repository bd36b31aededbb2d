//! Groups as they are called elsewhere → the groups that policies name, by rules.

use super::sorted;

/// Most groups that one proof lists, and longest name of one: each is an entity in every decision.
pub(super) const MAX_GROUPS: usize = 1_024;
const MAX_GROUP: usize = 256;

/// A group that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted<'a> {
    /// What policies call it.
    pub(super) ours: &'a str,
    /// What it is called where it comes from.
    pub(super) listed: &'a str,
    /// The rule that takes it; none: all count, as they are called.
    pub(super) rule: Option<&'a str>,
}

/// The groups that count of those listed; `None` where they are not as groups are.
pub(super) fn counted<'a>(
    group_names: &'a [(String, String)],
    listed: &'a [&'a str],
) -> Option<Vec<Counted<'a>>> {
    let is_group = |group: &&str| !group.is_empty() && group.len() <= MAX_GROUP;
    if listed.len() > MAX_GROUPS || !listed.iter().all(is_group) {
        return None;
    }
    if group_names.is_empty() {
        let as_called = |name: &&'a str| Counted { ours: name, listed: name, rule: None };
        return Some(listed.iter().map(as_called).collect());
    }
    let named = group_names.iter().filter_map(|(theirs, ours)| {
        let found = listed.iter().find(|name| takes(theirs, name))?;
        Some(Counted { ours, listed: found, rule: Some(theirs) })
    });
    Some(named.collect())
}

/// Their names here, sorted, without repeats.
pub(super) fn names(counted: &[Counted<'_>]) -> Vec<String> {
    sorted(counted.iter().map(|group| group.ours.to_owned()).collect())
}

/// Those of the listed that no rule takes.
pub(super) fn left_out<'a>(
    group_names: &[(String, String)],
    listed: &[&'a str],
) -> impl Iterator<Item = &'a str> {
    let is_left = |name: &&&str| {
        !group_names.is_empty() && !group_names.iter().any(|(theirs, _)| takes(theirs, name))
    };
    listed.iter().filter(is_left).copied()
}

/// Whether a rule takes a listed group: by its very name, or by its beginning where the rule ends in a `*`.
fn takes(theirs: &str, listed: &str) -> bool {
    match theirs.strip_suffix('*') {
        Some(beginning) => listed.starts_with(beginning),
        None => listed == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(theirs, ours)| ((*theirs).to_owned(), (*ours).to_owned())).collect()
    }

    #[test]
    fn by_name_by_beginning_or_as_they_are() {
        for (of, listed, expected, left) in [
            (&[][..], &["b", "a", "b"][..], &["a", "b"][..], &[][..]),
            (&[("a", "x")], &["b", "a", "A", "aa"], &["x"], &["b", "A", "aa"]),
            (&[("team-*", "x"), ("team-db", "y")], &["team-db"], &["x", "y"], &[]),
            (
                &[("team-*", "x")],
                &["team-", "team", "xteam-a", "TEAM-a"],
                &["x"],
                &["team", "xteam-a", "TEAM-a"],
            ),
            (&[("*", "x")], &["b"], &["x"], &[]),
            (&[("*", "x")], &[], &[], &[]),
            // A star that is listed is a letter.
            (&[("ab", "x")], &["*", "a*"], &[], &["*", "a*"]),
        ] {
            let rules = rules(of);
            assert_eq!(names(&counted(&rules, listed).unwrap()), expected, "{of:?} {listed:?}");
            assert_eq!(left_out(&rules, listed).collect::<Vec<_>>(), left, "{of:?} {listed:?}");
        }
    }

    #[test]
    fn what_no_group_is() {
        let (long, many) = ("x".repeat(MAX_GROUP + 1), vec!["x"; MAX_GROUPS + 1]);
        for listed in [&[""][..], &["a", long.as_str()], &many] {
            assert_eq!(counted(&[], listed), None);
        }
    }
}
