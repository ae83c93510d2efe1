//! Serialization of names.

use serde::{Serialize, Serializer};

use super::traffic::Name;

/// Serializes bytes that are mostly text: as a string, or as a list of bytes if they are not UTF-8. So
/// nothing is lost, and no two names become equal.
///
/// ```
/// use bwmon::model::Text;
///
/// assert_eq!(serde_json::to_string(&Text(b"ssh \x1b"))?, r#""ssh \u001b""#);
/// assert_eq!(serde_json::to_string(&Text(b"a\xff"))?, "[97,255]");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a>(
    /// The bytes.
    pub &'a [u8],
);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0),
        }
    }
}

/// Serializes a field of bytes as [`Text`].
pub(super) fn serialize<S: Serializer>(
    name: impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    Text(name.as_ref()).serialize(serializer)
}

/// The words of a raw command line.
pub(super) fn words(cmdline: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    words.split(|byte| *byte == 0).filter(|_| !cmdline.is_empty())
}

/// Serializes a raw command line as the list of its words.
pub(super) fn serialize_words<S: Serializer>(
    cmdline: &Name,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(words(cmdline).map(Text))
}

/// Serializes an optional text.
pub(super) fn serialize_optional<S: Serializer>(
    name: &Option<Name>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    name.as_deref().map(Text).serialize(serializer)
}

#[cfg(test)]
pub(super) fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let bytes = serde_json::json!({ "type": "integer", "minimum": 0, "maximum": 255 });
    schemars::json_schema!({ "type": ["string", "array"], "items": bytes })
}

#[cfg(test)]
pub(super) fn schema_of_words(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "array", "items": schema(generator) })
}

#[cfg(test)]
pub(super) fn schema_of_optional(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = schema(generator);
    schema.insert("type".to_owned(), serde_json::json!(["string", "array", "null"]));
    schema
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_what_was_given_to_exec() {
        let words = |cmdline| -> Vec<String> {
            words(cmdline).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        };
        assert_eq!(words(b"ssh\0-o\0a b\0"), ["ssh", "-o", "a b"]);
        assert_eq!(words(b"sh\0\0x\0"), ["sh", "", "x"]);
        assert_eq!(words(b"nginx: worker process"), ["nginx: worker process"]);
        assert!(words(b"").is_empty());
    }
}
