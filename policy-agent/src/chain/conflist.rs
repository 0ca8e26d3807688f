//! A CNI network configuration list with netpol's plugin in its chain, or without it, as text.
//!
//! Everything else stays identical to the byte: unknown fields, their order, and white space. Source: the CNI
//! specification 1.1.0, section 1, <https://www.cni.dev/docs/spec/#section-1-network-configuration-format>.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The type of our plugin, and the name of its program.
pub const PLUGIN: &str = "netpol-cni";

/// Why a configuration is left alone.
#[derive(Debug, thiserror::Error)]
pub enum ConflistError {
    /// The text is no JSON, or not of this shape.
    #[error("it is not a CNI configuration: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// There is nothing that could give a pod its addresses.
    #[error("it has no plugins to chain to")]
    Empty,
}

#[derive(Deserialize)]
struct Configuration<'a> {
    #[serde(borrow, default)]
    plugins: Option<Vec<&'a RawValue>>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(rename = "cniVersion", default)]
    version: Option<Value>,
    #[serde(default)]
    name: Option<Value>,
}

/// One plugin of a chain.
struct Plugin {
    /// Its position in the text.
    range: Range<usize>,
    value: Value,
}

impl Plugin {
    fn is_ours(&self) -> bool {
        self.value.get("type").is_some_and(|kind| kind == PLUGIN)
    }
}

fn read(text: &str) -> Result<Configuration<'_>, ConflistError> {
    serde_json::from_str(text).map_err(ConflistError::Unreadable)
}

fn plugins(text: &str) -> Result<Vec<Plugin>, ConflistError> {
    let raw = read(text)?.plugins.ok_or(ConflistError::Empty)?;
    let plugin = |raw: &RawValue| {
        // A raw value is a part of the text that it was read from.
        let start = (raw.get().as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        let value = serde_json::from_str(raw.get()).map_err(ConflistError::Unreadable)?;
        Ok(Plugin { range: start..start + raw.get().len(), value })
    };
    raw.into_iter().map(plugin).collect()
}

fn part(text: &str, range: Range<usize>) -> &str {
    text.get(range).unwrap_or_default()
}

/// Whether this is the configuration of a single plugin, as in files that end in `.conf`.
#[must_use]
pub fn is_single(text: &str) -> bool {
    read(text).is_ok_and(|configuration| configuration.plugins.is_none() && configuration.kind.is_some())
}

/// Whether our plugin is in the chain.
#[cfg(test)]
pub(super) fn has_plugin(text: &str) -> bool {
    plugins(text).is_ok_and(|plugins| plugins.iter().any(Plugin::is_ours))
}

/// The list with our plugin, configured like this, at the end of its chain; `None` when it is in the chain already.
///
/// # Errors
/// When the list cannot be read, or is empty.
pub fn with_plugin(text: &str, entry: &Value) -> Result<Option<String>, ConflistError> {
    let before = plugins(text)?;
    if let [ours] = before.iter().filter(|plugin| plugin.is_ours()).collect::<Vec<_>>().as_slice()
        && ours.value == *entry
    {
        return Ok(None);
    }
    let text = without_plugin(text)?.unwrap_or_else(|| text.to_owned());
    let plugins = plugins(&text)?;
    let last = plugins.last().ok_or(ConflistError::Empty)?;
    let (head, tail) = text.split_at_checked(last.range.end).unwrap_or((&text, ""));
    // As far from the one before as that one is from what is before it.
    let lead = part(&text, 0..last.range.start);
    let space = part(lead, lead.trim_end().len()..lead.len());
    Ok(Some(format!("{head},{space}{entry}{tail}")))
}

/// The list without our plugin; `None` when it has none.
///
/// # Errors
/// When the list cannot be read.
pub fn without_plugin(text: &str) -> Result<Option<String>, ConflistError> {
    let plugins = plugins(text)?;
    let mut out = text.to_owned();
    // From the end, so that ranges before it stay true.
    for (at, plugin) in plugins.iter().enumerate().rev().filter(|(_, plugin)| plugin.is_ours()) {
        let before = at.checked_sub(1).and_then(|before| plugins.get(before));
        let after = plugins.get(at + 1);
        let range = match (before, after) {
            (Some(before), _) => before.range.end..plugin.range.end,
            (None, Some(after)) => plugin.range.start..after.range.start,
            (None, None) => plugin.range.clone(),
        };
        out.replace_range(range, "");
    }
    Ok((out != text).then_some(out))
}

/// A list whose chain is the plugin of this single configuration, then ours.
///
/// # Errors
/// When the configuration cannot be read.
pub fn from_single(text: &str, entry: &Value) -> Result<String, ConflistError> {
    let configuration = read(text)?;
    let quoted = |value: Option<Value>, default: &str| value.unwrap_or_else(|| default.into()).to_string();
    let (version, name) = (quoted(configuration.version, "0.3.1"), quoted(configuration.name, "network"));
    let plugin = text.trim();
    Ok(format!("{{\n\"cniVersion\": {version},\n\"name\": {name},\n\"plugins\": [\n{plugin},\n{entry}\n]\n}}\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry() -> Value {
        json!({"type": PLUGIN, "socket": "/run/netpol/agent.sock"})
    }

    const FLANNEL: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": { "hairpinMode": true, "isDefaultGateway": true }
    },
    {
      "type": "portmap",
      "capabilities": { "portMappings": true }
    }
  ]
}
"#;

    #[test]
    fn what_is_there_stays_to_the_byte() {
        let with = with_plugin(FLANNEL, &entry()).unwrap().unwrap();
        let added = format!(",\n    {}", entry());
        assert_eq!(with.replace(&added, ""), FLANNEL);
        assert_eq!(serde_json::from_str::<Value>(&with).unwrap()["plugins"][2], entry());
        assert_eq!(with_plugin(&with, &entry()).unwrap(), None, "once is enough");
        assert_eq!(without_plugin(&with).unwrap().unwrap(), FLANNEL);
        assert_eq!(without_plugin(FLANNEL).unwrap(), None);
        assert!(has_plugin(&with) && !has_plugin(FLANNEL));
    }

    #[test]
    fn an_entry_of_another_version_is_replaced() {
        let old = json!({"type": PLUGIN, "socket": "/old.sock"});
        let with = with_plugin(FLANNEL, &old).unwrap().unwrap();
        let new = with_plugin(&with, &entry()).unwrap().unwrap();
        assert_eq!(without_plugin(&new).unwrap().unwrap(), FLANNEL);
        assert!(!new.contains("/old.sock"));
    }

    #[test]
    fn whoever_was_chained_behind_us_stays_there() {
        let text = format!(r#"{{"plugins":[{{"type":"ptp"}},{},{{"type":"istio-cni"}}]}}"#, entry());
        assert_eq!(with_plugin(&text, &entry()).unwrap(), None);
        assert_eq!(without_plugin(&text).unwrap().unwrap(), r#"{"plugins":[{"type":"ptp"},{"type":"istio-cni"}]}"#);
        let first = format!(r#"{{"plugins":[{} , {{"type":"ptp"}}]}}"#, entry());
        assert_eq!(without_plugin(&first).unwrap().unwrap(), r#"{"plugins":[{"type":"ptp"}]}"#);
        let twice = format!(r#"{{"plugins":[{{"type":"ptp"}},{0},{0}]}}"#, entry());
        let once = with_plugin(&twice, &entry()).unwrap().unwrap();
        assert_eq!(once, format!(r#"{{"plugins":[{{"type":"ptp"}},{}]}}"#, entry()));
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let single = "{\"cniVersion\": \"0.4.0\", \"name\": \"mynet\", \"type\": \"bridge\", \"odd\": [1]}\n";
        assert!(is_single(single) && !is_single(FLANNEL));
        let list: Value = serde_json::from_str(&from_single(single, &entry()).unwrap()).unwrap();
        assert_eq!((&list["cniVersion"], &list["name"]), (&json!("0.4.0"), &json!("mynet")));
        assert_eq!(list["plugins"][0], serde_json::from_str::<Value>(single).unwrap());
        assert_eq!(list["plugins"][1], entry());
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for text in ["", "{", "7", "{\"plugins\": 7}", "{\"plugins\": [{]}"] {
            assert!(matches!(with_plugin(text, &entry()), Err(ConflistError::Unreadable(_))), "{text}");
        }
        for text in ["{}", "[]", "{\"plugins\": []}", "{\"plugins\": null}"] {
            assert!(matches!(with_plugin(text, &entry()), Err(ConflistError::Empty)), "{text}");
        }
        let only_ours = format!("{{\"plugins\": [{}]}}", json!({"type": PLUGIN}));
        assert!(matches!(with_plugin(&only_ours, &entry()), Err(ConflistError::Empty)));
    }
}
