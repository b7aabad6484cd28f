//! One TOML value against what an option accepts. Errors say what is wrong, not what would be accepted.

use toml::de::DeValue;

use super::nix_settings;
use super::option::Kind;
use super::secret;
use super::units::{self, Size};
use super::value::Value;

/// The value as it was written, shortened and without passwords, with its type.
pub(super) fn what(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => string(text),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("the boolean {value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn string(text: &str) -> String {
    let text = secret::hidden(text);
    let short: String = text.chars().take(60).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("the string {short:?}{more}")
}

/// What the kind makes of the value, or what is wrong with it.
pub(super) fn scalar(kind: &Kind, value: &DeValue<'_>) -> Result<Value, String> {
    let wrong_type = || Err(format!("{} is of the wrong type", what(value)));
    let out_of_range = || Err(format!("{} is out of range", what(value)));
    let malformed = || Err(format!("{} is not understood", what(value)));
    match (kind, value) {
        (Kind::Bool, DeValue::Boolean(value)) => Ok(Value::Bool(*value)),
        (Kind::Int(from, to), DeValue::Integer(number)) => {
            match u64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) if (*from..=*to).contains(&number) => Ok(Value::Int(number)),
                _ => out_of_range(),
            }
        }
        (Kind::Cpus, DeValue::Integer(_) | DeValue::Float(_) | DeValue::String(_)) => {
            let number = match value {
                DeValue::Integer(n) => u32::from_str_radix(n.as_str(), n.radix()).ok().map(f64::from),
                DeValue::Float(n) => n.as_str().parse().ok(),
                DeValue::String(text) => match units::parse_millicpus(text) {
                    None => return malformed(),
                    number => number,
                },
                _ => None,
            };
            match number {
                Some(number) if (0.01..=4096.0).contains(&number) => Ok(Value::Cpus(number)),
                _ => out_of_range(),
            }
        }
        (Kind::Size(least), DeValue::String(text)) => match Size::parse(text) {
            Some(size) if size < *least => Err(format!("{} is too little", what(value))),
            Some(size) => Ok(Value::Size(size)),
            None => malformed(),
        },
        (Kind::DurationOrNever(..), DeValue::String(text)) if text == units::NEVER => Ok(Value::Unset),
        (Kind::Duration(from, to) | Kind::DurationOrNever(from, to), DeValue::String(text)) => {
            match units::parse_duration(text) {
                Some(duration) if (*from..=*to).contains(&duration.as_secs()) => {
                    Ok(Value::Duration(duration))
                }
                Some(_) => out_of_range(),
                None => malformed(),
            }
        }
        (Kind::Word(words), DeValue::String(text)) => {
            if words.contains(&text.as_ref()) {
                Ok(Value::Text(text.to_string()))
            } else {
                malformed()
            }
        }
        (Kind::Text(form), DeValue::String(text)) => match form.check(text) {
            Ok(()) => Ok(Value::Text(text.to_string())),
            Err(why) => Err(format!("{} is refused: {why}", string(&form.presentable(text)))),
        },
        _ => wrong_type(),
    }
}

/// The value of a setting of nix.conf as one line.
pub(super) fn nix_setting(value: &DeValue<'_>) -> Result<String, String> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Array(items) => {
            let mut words = Vec::new();
            for item in items.iter() {
                match item.get_ref() {
                    DeValue::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
                        words.push(text.as_ref());
                    }
                    other => return Err(format!("{} in a list that is joined by spaces", what(other))),
                }
            }
            words.join(" ")
        }
        other => return Err(format!("{} is of the wrong type", what(other))),
    };
    nix_settings::check_value(&text).map_err(|why| format!("{} is refused: {why}", what(value)))?;
    Ok(text)
}
