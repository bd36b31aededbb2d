//! What a policy mentions, read from its JSON form: the labels and the groups that it names, whether it reads the time, and
//! what it reads of what clients say.

use serde_json::Value;

use crate::run::Names;

/// The string literals that a condition compares with some `labels` or `all_labels`.
pub(super) fn labels_in(policy: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(policy, &mut |node| {
        for operation in ["contains", "containsAny", "containsAll", "=="] {
            let Some(sides) = node.get(operation) else { continue };
            let (left, right) = (&sides["left"], &sides["right"]);
            if is_labels(left) {
                strings(right, &mut found);
            }
            if is_labels(right) {
                strings(left, &mut found);
            }
        }
        true
    });
    found.sort();
    found.dedup();
    found
}

/// The groups that it names, in its scope or a condition.
pub(super) fn groups_in(policy: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(policy, &mut |node| {
        if node["type"] == "Group"
            && let Some(Value::String(name)) = node.get("id")
        {
            found.push(name.clone());
        }
        true
    });
    found
}

/// Whether a condition reads `context.time`, or the context as a whole.
pub(super) fn reads_time(policy: &Value) -> bool {
    let mut found = false;
    walk(policy, &mut |node| {
        let path = context_path(node);
        found |= path.as_deref().is_some_and(|path| matches!(path, [] | ["time", ..]));
        path.is_none()
    });
    found
}

/// What a condition reads of `context.run`: all of it, where that or the context is looked at as a whole.
pub(super) fn reads_run(policy: &Value) -> Names {
    let mut found = Names::default();
    walk(policy, &mut |node| {
        let path = context_path(node);
        found = found.and(match path.as_deref() {
            Some([] | ["run"]) => Names::ALL,
            Some(["run", name, ..]) => Names::of(name),
            _ => Names::default(),
        });
        path.is_none()
    });
    found
}

/// What an access reads of the context, from the outside in: nothing of the context itself, all of which it is. `None` where
/// a node is none.
fn context_path(node: &Value) -> Option<Vec<&str>> {
    if node["Var"] == "context" {
        return Some(Vec::new());
    }
    let operands = [".", "has"].into_iter().find_map(|access| node.get(access))?;
    let mut path = context_path(&operands["left"])?;
    match &operands["attr"] {
        // `context has run.purpose`
        Value::Array(names) => path.extend(names.iter().filter_map(Value::as_str)),
        name => path.extend(name.as_str()),
    }
    Some(path)
}

fn is_labels(node: &Value) -> bool {
    node.get(".").is_some_and(|access| access["attr"] == "labels" || access["attr"] == "all_labels")
}

fn strings(node: &Value, found: &mut Vec<String>) {
    walk(node, &mut |node| {
        if let Some(Value::String(text)) = node.get("Value") {
            found.push(text.clone());
        }
        true
    });
}

/// Visits every node; `visit` says whether to go further down.
fn walk(node: &Value, visit: &mut impl FnMut(&Value) -> bool) {
    if !visit(node) {
        return;
    }
    match node {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(fields) => fields.values().for_each(|field| walk(field, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;

    fn json(condition: &str) -> Value {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        Policy::parse(None, text).unwrap().to_json().unwrap()
    }

    #[test]
    fn labels_are_found_on_either_side() {
        for (condition, wanted) in [
            ("resource.labels.contains(\"pci\")", vec!["pci"]),
            ("resource.labels.containsAny([\"a\", \"b\"])", vec!["a", "b"]),
            ("[\"x\"].containsAll(resource.labels)", vec!["x"]),
            ("resource.all_labels == [\"y\"] || resource.name == \"z\"", vec!["y"]),
            ("resource.name == \"pci\"", vec![]),
        ] {
            assert_eq!(labels_in(&json(condition)), wanted, "{condition}");
        }
    }

    #[test]
    fn groups_are_found_in_scope_and_conditions() {
        let text = r#"permit (principal in Group::"a", action, resource == Table::"t")
            when { principal in [Group::"b", Group::"c"] || resource.name == "d" };"#;
        let mut found = groups_in(&Policy::parse(None, text).unwrap().to_json().unwrap());
        found.sort();
        assert_eq!(found, ["a", "b", "c"]);
        let typed = json("principal == Identity::\"x\"");
        assert_eq!(groups_in(&typed), [""; 0]);
    }

    #[test]
    fn time() {
        for (condition, wanted) in [
            ("context.time.hour > 8", true),
            ("context[\"time\"].hour > 8", true),
            ("context has time", true),
            ("context has time.hour", true),
            ("context == {a: 1}", true),
            ("context.verb == \"time\"", false),
            ("resource.name == \"time\"", false),
        ] {
            assert_eq!(reads_time(&json(condition)), wanted, "{condition}");
        }
    }

    #[test]
    fn run() {
        let (purpose, run_id) = (Names::of("purpose"), Names::of("run_id"));
        for (condition, wanted) in [
            ("context.run has purpose", purpose),
            ("context[\"run\"][\"purpose\"] == \"x\"", purpose),
            ("context has run.purpose", purpose),
            ("context.run has purpose && context.run.run_id like \"r-*\"", purpose.and(run_id)),
            ("resource has x && (if context.run has run_id then true else false)", run_id),
            ("context has run", Names::ALL),
            ("context.run == {purpose: \"x\"}", Names::ALL),
            ("[context.run].contains({})", Names::ALL),
            ("context == {a: 1}", Names::ALL),
            ("context.verb == \"run\"", Names::default()),
            ("resource.run.purpose == \"x\"", Names::default()),
            ("principal.getTag(\"run\") == \"x\"", Names::default()),
        ] {
            assert_eq!(reads_run(&json(condition)), wanted, "{condition}");
        }
    }
}
