//! The API's document: it names every route and no other, and each answer of these tests is of the form that it says.

use serde_json::Value;

static DOCUMENT: std::sync::LazyLock<Value> =
    std::sync::LazyLock::new(|| serde_json::from_str(crate::control::operate::OPENAPI).unwrap());

/// The routes of the admin API, as its sources name them: path and methods.
fn routes() -> Vec<(String, Vec<&'static str>)> {
    let sources = [include_str!("../mod.rs"), include_str!("../device.rs")];
    let lines = sources.into_iter().flat_map(|source| source.split(".route(\"").skip(1));
    let route = |line: &str| {
        let (path, rest) = line.split_once('"').unwrap();
        let rest = rest.lines().next().unwrap();
        let methods = ["get", "post"].into_iter().filter(|m| rest.contains(&format!("{m}(")));
        (path.to_owned(), methods.collect())
    };
    let all = lines.map(route);
    all.filter(|(path, _): &(String, _)| path.starts_with("/v1/")).collect()
}

#[test]
fn it_names_every_route_and_no_other() {
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for (path, of_path) in DOCUMENT["paths"].as_object().unwrap() {
        let methods = ["get", "post"].into_iter().filter(|method| of_path.get(method).is_some());
        said.push((path.clone(), methods.collect()));
    }
    let mut there = routes();
    there.sort();
    said.sort();
    assert!(there.len() > 20, "the routes were not found: {there:?}");
    assert_eq!(there, said);
}

/// An answer to this request fits what the document says.
pub(super) fn check(method: &str, path: &str, status: u16, answer: &Value) {
    let path = path.split('?').next().unwrap();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let fits = |template: &str| {
        let (a, b) = (template.split('/'), path.split('/'));
        a.clone().count() == b.clone().count()
            && a.zip(b).all(|(a, b)| a == b || a.starts_with('{'))
    };
    let of_path = paths.iter().find(|(template, _)| fits(template)).map(|(_, of)| of);
    let operation = of_path.and_then(|of| of.get(method.to_lowercase()));
    let schema = match operation {
        Some(operation) if status == 200 => {
            &operation["responses"]["200"]["content"]["application/json"]["schema"]
        }
        _ => &DOCUMENT["components"]["schemas"]["Error"],
    };
    if let Err(why) = of_form(schema, answer) {
        panic!("{method} {path}: {status}: {why}: {answer}");
    }
}

fn of_form(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return of_form(&DOCUMENT["components"]["schemas"][name], value);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().try_for_each(|one| of_form(one, value));
    }
    if let Some(some) = schema["oneOf"].as_array() {
        let fits = some.iter().any(|one| of_form(one, value).is_ok());
        return if fits { Ok(()) } else { Err(format!("{value} is none of {schema}")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) {
            Ok(())
        } else {
            Err(format!("{value} is no such word"))
        };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = &schema["type"];
    let is_kind =
        allowed == kind || allowed.as_array().is_some_and(|all| all.contains(&kind.into()));
    if !is_kind {
        return Err(format!("{value} is no {allowed}"));
    }
    let required = schema["required"].as_array();
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, of_field) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(field) = value.get(name) {
            of_form(of_field, field).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    let mut items = value.as_array().into_iter().flatten();
    items.try_for_each(|item| of_form(&schema["items"], item))
}
