use std::fmt::Write;

use ini::{EscapePolicy, Ini, ParseOption};
use proptest::prelude::*;

use super::*;

/// `section/key=value` for each entry that applies, a line each, and then the errors.
fn read(text: &[u8]) -> String {
    let (document, errors) = parse(Path::new("f"), text);
    let mut lines = String::new();
    for section in document.sections() {
        for entry in document.entries(section) {
            let value = document.value(section, entry).unwrap_or_else(|e| e.to_string().into());
            let (name, value) = (section.name.escape_ascii(), value.escape_ascii());
            writeln!(lines, "{name}/{}={value}", entry.key).unwrap();
        }
    }
    for error in errors {
        writeln!(lines, "{error}").unwrap();
    }
    lines
}

#[test]
fn a_table_of_documents() {
    let cases: &[(&[u8], &str)] = &[
        (b"", ""),
        (b"[a]\nk=v", "a/k=v\n"),
        (b"[a]\nk: v\n", "a/k=v\n"),
        // Blanks around the key and the value, and carriage returns.
        (b"[a]\r\nk =\t v w \r\n", "a/k=v w\n"),
        // The first of `=` and `:` ends the key.
        (b"[a]\nk=a:b=c\nl:a=b\n", "a/k=a:b=c\na/l=a=b\n"),
        // Keys are in small letters, sections are not; a key may have blanks and brackets in it.
        (b"[A]\nThe [Key]=V\n", "A/the [key]=V\n"),
        // Only ASCII has small letters here.
        ("[a]\n\u{c4}=1\n".as_bytes(), "a/\u{c4}=1\n"),
        // A key given twice: the last counts, in the place of the first.
        (b"[a]\nk=1\nl=2\nK=3\n", "a/k=3\na/l=2\n"),
        // A section given twice is one.
        (b"[a]\nk=1\n[b]\nk=2\n[a]\nl=3\n", "a/k=1\na/l=3\nb/k=2\n"),
        // Sections are not stripped, and end at the first `]`; the rest of the line says nothing.
        (b"[ a ]\nk=1\n[b]x]=y\nk=2\n", " a /k=1\nb/k=2\n"),
        // Defaults count in every section, wherever they stand, and sections win.
        (b"[a]\nk=1\n[DEFAULT]\nk=2\nl=3\n[b]\n", "a/k=1\na/l=3\nb/k=2\nb/l=3\n"),
        // Only in capitals.
        (b"[default]\nk=1\n", "default/k=1\n"),
        // Comments: `#`, `;` and `rem` in the first column only.
        (b"# x\n; x=y\nrem k=1\nREM\n[a]\nrem k=1\nk=2\n", "a/k=2\n"),
        (b"[a]\nremark=1\nrem=2\n", "a/remark=1\na/rem=2\n"),
        // A `;` after a blank, and only if it is the first of the line. A `#` never.
        (b"[a]\nk=v ; x\nl=v;w\nm=v;w ; x\nn=v # w\n", "a/k=v\na/l=v;w\na/m=v;w ; x\na/n=v # w\n"),
        (b"[a]\nk=v\t;x\n", "a/k=v\n"),
        // What begins with `;` stays, since Python looks at the character before, which is the
        // last one. With a blank at the end (a carriage return is one) it is a comment.
        (b"[a]\nk=;v\nl= ; v\nm=;v \nn=; v\r\n", "a/k=;v\na/l=; v\na/m=\na/n=\n"),
        // Two quotation marks are nothing; others are themselves, as backslashes are.
        (
            b"[a]\nk=\"\"\nl=\"v\"\nm=''\nn=a\\\no=\\.b\n",
            r#"a/k=
a/l=\"v\"
a/m=\'\'
a/n=a\\
a/o=\\.b
"#,
        ),
        (b"[a]\nk=\nl:\n", "a/k=\na/l=\n"),
        // Continued lines keep their comments; blank lines and comments in between don't end it.
        (b"[a]\nk=v ; x\n  w ; x\n\n# y\n\t# z\n", "a/k=v\\nw ; x\\n# z\n"),
        (b"[a]\nk=\n w\n", "a/k=\\nw\n"),
        // What looks like a key or a section in them is part of the value.
        (b"[a]\nk=v\n l=w\n [b]\n", "a/k=v\\nl=w\\n[b]\n"),
        // They belong to the last of a key given twice.
        (b"[a]\nk=1\n x\nk=2\n y\n", "a/k=2\\ny\n"),
        // A byte order mark: ours; Python took it for part of the line.
        (b"\xef\xbb\xbf[a]\nk=v\n", "a/k=v\n"),
        // Bytes that are no UTF-8, in a comment, a section's name and a value.
        (b"# \xff\n[\xff]\nk=\xfe\n", "\\xff/k=\\xfe\n"),
        // References: to the own section first, then to the defaults, and to the name.
        (
            b"[DEFAULT]\nd=1\n[a]\nk=%(D)s%(l)s\nl=2%(__name__)s\n[b]\nd=3\nk=%(d)s\n",
            "a/k=12a\na/l=2a\na/d=1\nb/d=3\nb/k=3\n",
        ),
        // Python hides this name from the list of keys, and yet takes a value for it.
        (b"[a]\n__name__=x\nk=%(__name__)s\n", "a/k=x\n"),
        (
            b"[a]\nk=%(l)s\n",
            "a/k=%(l)s names a key that neither this section nor [DEFAULT] has; expected one of \
             theirs, or %% for a percent sign\n",
        ),
        // Nothing may stand before the first section; that is said once.
        (
            b"k=v\nl=w\n m\n[a]\nk=v\n",
            "a/k=v\nf:1: 'k=v' stands before the first section; expected a line such as [Name] \
             above it\n",
        ),
        // All lines that make no sense are told, and the others are read.
        (
            b"[a]\nfoo\n=v\nk=v\n[]\n[b\n",
            "a/k=v\n\
             f:2: [a]: 'foo' is neither a section nor a key with a value; expected [Name] or \
             key=value\n\
             f:3: [a]: '=v' is neither a section nor a key with a value; expected [Name] or \
             key=value\n\
             f:5: [a]: '[]' is not the name of a section; expected [Name]\n\
             f:6: [a]: '[b' is not the name of a section; expected [Name]\n",
        ),
        // Without its end it is no section, but it may be a key.
        (b"[a]\n[b=v\n", "a/[b=v\n"),
        // An indented line after a header has nothing to continue, even if it looks like a key.
        (
            b"[a]\n k=v\n",
            "f:2: [a]: 'k=v' is indented, which continues the value before it, and there is none; \
             expected a line that begins in the first column\n",
        ),
        // What continues the value of a key that isn't taken isn't taken either.
        (
            b"[a]\nk=v\n\xff=w\n x\n",
            "a/k=v\nf:3: [a]: the key '\\xff' is not UTF-8; expected plain text\n",
        ),
        // Only a newline ends a line.
        (b"[a]\nk=v\rl=w\x0cx\n", "a/k=v\\rl=w\\x0cx\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), *expected, "{}", text.escape_ascii());
    }
}

/// What `tests/fixtures/ini/generate.py` made of random documents, read by Python 2.7.18.
#[test]
fn documents_are_read_as_python_read_them() {
    let unescaped = |text: &str| -> Vec<u8> {
        let mut parts = text.split("\\x");
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        bytes
    };
    for line in include_str!("../../../tests/fixtures/ini/python-2.7.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let (document, errors) = parse(Path::new("f"), &unescaped(fields[0]));
        if fields[1..] == ["refused"] {
            assert_ne!(errors, [], "{line}");
            continue;
        }
        assert_eq!(errors, [], "{line}");
        let mut expected: Vec<Vec<Vec<u8>>> = fields[1..]
            .chunks(4)
            .map(|entry| entry.iter().copied().map(unescaped).collect())
            .collect();
        let mut found = Vec::new();
        for section in document.sections() {
            for entry in document.entries(section) {
                found.push(vec![
                    section.name.clone(),
                    entry.key.clone().into_bytes(),
                    entry.value.clone(),
                    document.value(section, entry).unwrap_or_else(|_| b"-".to_vec()),
                ]);
            }
        }
        // Python's order of sections is that of the file, that of keys isn't.
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn lines_are_those_of_the_key_and_the_header() {
    let text = b"\n[a]\n# x\nk=1\n l\nm=2\n[a]\nk=3\n[DEFAULT]\n[DEFAULT]\nd=1\n";
    let (document, errors) = parse(Path::new("f"), text);
    assert_eq!(errors, []);
    assert_eq!(document.defaults().line, 9);
    let section = document.sections().next().unwrap();
    let lines: Vec<usize> = document.entries(section).map(|entry| entry.line).collect();
    assert_eq!((section.line, lines), (2, vec![8, 6, 11]));
    assert!(document.is_default(section, "d") && !document.is_default(section, "k"));
}

#[test]
fn references_of_the_whole_file() {
    let (document, _) = parse(Path::new("f"), b"[DEFAULT]\na=%(B)s\n[s]\nc=%(d)s%(a)s %%(e)s\n");
    let names: Vec<Vec<u8>> = document.references().collect();
    assert_eq!(names, [b"b", b"d", b"a"]);
}

/// Any text, in which relevant characters are frequent.
fn documents() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<Vec<u8>>(),
        r"[a-c\[\]=:;#% \r\n\t()s]{0,12}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "[a]\n",
            "[DEFAULT]\n",
            "\nk=",
            "\n ",
            "%(k)s",
            "%%",
            " ; ",
            "\nrem ",
            "\x1b[2J",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_message_has_control_characters(text in documents()) {
        let (document, errors) = parse(Path::new("f\n"), &text);
        for error in errors {
            prop_assert!(!error.to_string().contains(char::is_control));
        }
        for section in document.sections() {
            for entry in document.entries(section) {
                if let Err(error) = document.value(section, entry) {
                    prop_assert!(!error.to_string().contains(char::is_control));
                }
            }
        }
    }

    /// What rust-ini writes and reads, without its own quoting and escaping, is read as the same.
    /// Only plain documents: for others it differs from Python.
    #[test]
    fn a_second_opinion_on_plain_documents(
        sections in prop::collection::btree_map(
            "[A-Z][A-Za-z0-9 ]{0,8}[a-z]",
            prop::collection::btree_map(
                "[a-z]([a-z0-9_. -]{0,8}[a-z])?",
                r#"([!-$&-+--:<-\[\]-~]([ !-$&-:<-~]{0,12}[!-$&-:<-\[\]-~])?)?"#,
                0..5,
            ),
            0..5,
        )
    ) {
        let mut ini = Ini::new();
        let mut expected = Vec::new();
        for (name, keys) in &sections {
            for (key, value) in keys {
                ini.with_section(Some(name.as_str())).add(key, value);
                // The one thing in which they differ that these documents can have.
                let value = if value == "\"\"" { "" } else { value };
                let line = format!("{key}={value}");
                if line.split(' ').next() != Some("rem") {
                    expected.push((name.clone(), key.clone(), value.to_owned()));
                }
            }
        }
        let mut text = Vec::new();
        ini.write_to_policy(&mut text, EscapePolicy::Nothing).unwrap();

        let (document, errors) = parse(Path::new("f"), &text);
        prop_assert_eq!(errors, []);
        let mut found = Vec::new();
        for section in document.sections() {
            for entry in section.entries() {
                let name = String::from_utf8(section.name.clone()).unwrap();
                let value = String::from_utf8(entry.value.clone()).unwrap();
                found.push((name, entry.key.clone(), value));
            }
        }
        prop_assert_eq!(&found, &expected);

        let plain = ParseOption {
            enabled_escape: false,
            enabled_quote: false,
            ..ParseOption::default()
        };
        let theirs = Ini::load_from_str_opt(std::str::from_utf8(&text).unwrap(), plain).unwrap();
        for (name, key, value) in &found {
            let said = theirs.get_from(Some(name.as_str()), key).unwrap_or_default();
            prop_assert!(said == value || said == "\"\"", "{name}/{key}: {said} {value}");
        }
    }
}
