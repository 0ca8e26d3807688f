//! YAML, as kubectl prints it: fields sorted by name, two spaces deep.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// Prints a value as YAML.
pub(crate) fn print<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    super::raw(text(value)?.as_bytes())
}

/// A value as YAML.
pub(crate) fn text<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut out = String::new();
    block(&serde_json::to_value(value)?, 0, &mut out);
    Ok(out)
}

/// A value that begins on a line of its own.
fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            // The order of `serde_json` depends on the features of other crates.
            let fields: BTreeMap<&String, &Value> = fields.iter().collect();
            for (number, (key, value)) in fields.into_iter().enumerate() {
                let indent = if number == 0 { 0 } else { depth };
                let _ = write!(out, "{:indent$}{}:", "", scalar(&Value::from(key.as_str())));
                after(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (number, item) in items.iter().enumerate() {
                let indent = if number == 0 { 0 } else { depth };
                let _ = write!(out, "{:indent$}- ", "");
                block(item, depth + 2, out);
            }
        }
        other => {
            let _ = writeln!(out, "{}", scalar(other));
        }
    }
}

/// A value after its key.
fn after(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let _ = write!(out, "\n{:1$}", "", depth + 2);
            block(value, depth + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            let _ = write!(out, "\n{:depth$}", "");
            block(value, depth, out);
        }
        other => {
            let _ = writeln!(out, " {}", scalar(other));
        }
    }
}

/// A value without parts. Text that YAML could read as something else is quoted; a JSON string is one of YAML.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./ ()[]".contains(c))
        && !text.ends_with(' ')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;

    #[test]
    fn values_are_written_as_kubectl_writes_them() {
        let value = json!([
            {"a": {"b": ["x", {"c": 1, "d": []}]}, "e": "80", "f": "no", "g": "", "h": null, "i": {}, "j": "a: b", "k": "a # b"},
            [[1, 2], "x"],
        ]);
        let expected = "\
- a:
    b:
    - x
    - c: 1
      d: []
  e: \"80\"
  f: \"no\"
  g: \"\"
  h: null
  i: {}
  j: \"a: b\"
  k: \"a # b\"
- - - 1
    - 2
  - x
";
        assert_eq!(text(&value).unwrap(), expected);
    }
}
