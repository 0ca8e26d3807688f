//! What a plain YAML scalar means to kubectl: YAML 1.1 as sigs.k8s.io/yaml reads it.

/// A resolved scalar.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Scalar<'a> {
    /// `~`, `null` or nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// An integer in any of the YAML 1.1 bases.
    Int(i64),
    /// A number that is no 64-bit integer.
    Float(f64),
    /// Anything else.
    Text(&'a str),
}

/// Resolves the text of a plain (unquoted) scalar.
pub(crate) fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => return Scalar::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Scalar::Text(text);
    }
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(value) = integer(&digits) {
        return Scalar::Int(value);
    }
    if is_float(&digits)
        && let Ok(value) = digits.parse()
    {
        return whole(value).map_or(Scalar::Float(value), Scalar::Int);
    }
    Scalar::Text(text)
}

/// The integer that a number is: kubectl converts YAML to JSON, which writes `1e3` and `1000.0` as `1000`.
fn whole(value: f64) -> Option<i64> {
    if value.fract() == 0.0 { format!("{value:.0}").parse().ok() } else { None }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = if let Some(hex) = body.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = body.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = body.strip_prefix("0o") {
        (8, octal)
    } else if let Some(octal) = body.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        (8, octal)
    } else {
        (10, body)
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
    i64::from_str_radix(&signed, radix).ok()
}

/// Source: `yamlStyleFloat` of the decoder that kubectl uses.
fn is_float(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (body, None),
    };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['-', '+']).unwrap_or(e);
            !e.is_empty() && digits(e)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_yaml_1_1() {
        for text in ["yes", "On", "TRUE", "y"] {
            assert_eq!(resolve(text), Scalar::Bool(true), "{text}");
        }
        for text in ["no", "Off", "FALSE", "n"] {
            assert_eq!(resolve(text), Scalar::Bool(false), "{text}");
        }
        assert_eq!(resolve("yEs"), Scalar::Text("yEs"));
    }

    #[test]
    fn integers_have_yaml_1_1_bases() {
        for (text, value) in [("017", 15), ("0o17", 15), ("0b11", 3), ("0x1F", 31), ("1_000", 1000), ("-5", -5), ("0", 0)] {
            assert_eq!(resolve(text), Scalar::Int(value), "{text}");
        }
        assert_eq!(resolve("-9223372036854775808"), Scalar::Int(i64::MIN));
    }

    #[test]
    fn numbers_without_a_fraction_are_integers() {
        for (text, value) in [("1e3", 1000), ("80.0", 80), ("8.", 8), ("-0.0", 0), ("1.5e1", 15), ("4503599627370496.0", 1 << 52)]
        {
            assert_eq!(resolve(text), Scalar::Int(value), "{text}");
        }
        for (text, value) in [("1.5", 1.5), ("9223372036854775808", 9_223_372_036_854_775_808.0), ("1e30", 1e30)] {
            assert_eq!(resolve(text), Scalar::Float(value), "{text}");
        }
    }

    #[test]
    fn times_dates_and_addresses_are_text() {
        for text in ["1:30", "2026-01-01", "10.0.0.1", "1.2.3", "-", "+", ".", "0x", "12ab", "1e"] {
            assert_eq!(resolve(text), Scalar::Text(text), "{text}");
        }
        assert_eq!(resolve("1.5"), Scalar::Float(1.5));
        assert_eq!(resolve("99999999999999999999"), Scalar::Float(1e20));
    }
}
