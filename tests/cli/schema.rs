//! docs/report.schema.json says what report.json is: a real one is checked against it, by a walker that knows the
//! few words of JSON Schema that it uses.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{assert_success, neokd, stdout, train};

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/report.schema.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Where and why `value` is not what `rule` says; words of JSON Schema that are not known here are a failure too.
fn failures(value: &Value, rule: &Value, root: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, argument) in rule.as_object().unwrap() {
        let holds = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let name = argument.as_str().unwrap().strip_prefix('#').unwrap();
                found.extend(failures(value, root.pointer(name).unwrap(), root, place));
                true
            }
            "type" => match argument {
                Value::Array(names) => names.iter().any(|name| is_of(value, name.as_str().unwrap())),
                name => is_of(value, name.as_str().unwrap()),
            },
            "const" => value == argument,
            "enum" => argument.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= argument.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= argument.as_f64().unwrap()),
            "anyOf" => argument.as_array().unwrap().iter().any(|rule| failures(value, rule, root, place).is_empty()),
            "required" => argument.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(failures(item, argument, root, &format!("{place}/{index}")));
                }
                true
            }
            "properties" => {
                for (key, rule) in argument.as_object().unwrap() {
                    if let Some(inside) = value.get(key) {
                        found.extend(failures(inside, rule, root, &format!("{place}/{key}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(*argument, false);
                value.as_object().is_none_or(|object| object.keys().all(|key| rule["properties"].get(key).is_some()))
            }
            other => panic!("the walker does not know {other}"),
        };
        if !holds {
            found.push(format!("{place}: {word} {argument} does not hold for {value}"));
        }
    }
    found
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("no type {other}"),
    }
}

/// Where and why a report is not what docs/report.schema.json says.
pub(crate) fn check(report: &Value) -> Vec<String> {
    let schema = schema();
    failures(report, &schema, &schema, "")
}

#[test]
fn a_report_is_what_the_published_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_success(&train(&out, &["--set", "validation.keep_best=true"]));
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(check(&report), [""; 0]);

    let arguments =
        ["evaluate", "--json", "--images", "2", "--steps", "1", "--policy", "confidence:0.5", "--checks", "2"];
    let scored = neokd().args(arguments).arg(out.join("weights.safetensors")).output().unwrap();
    assert_success(&scored);
    let with_policy: Value = serde_json::from_str(&stdout(&scored)).unwrap();
    assert!(with_policy["training"].is_null() && with_policy["config"]["training"].is_null());
    assert!(with_policy["policies"].is_array());
    assert!(with_policy["attacks"][1]["verdict"]["level"].is_string());
    assert_eq!(check(&with_policy), [""; 0]);

    let spoiled: [(&str, Value, &str); 6] = [
        ("schema", json!("neokd.report/2"), "/schema: const"),
        ("n", json!(-1), "/n: minimum"),
        ("seconds", Value::Null, "/seconds: type"),
        ("surprise", json!(1), ": additionalProperties"),
        ("clean", json!({"exits": [{"count": 1}], "mean": 0.5}), "/clean/exits/0: required"),
        ("attacks", json!([{"verdict": {"level": "perhaps"}}]), "/attacks/0/verdict/level: enum"),
    ];
    for (key, value, part) in spoiled {
        let mut report = report.clone();
        report[key] = value;
        let found = check(&report);
        assert!(found.iter().any(|failure| failure.starts_with(part)), "{part}: {found:?}");
    }
}
