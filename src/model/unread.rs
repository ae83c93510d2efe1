//! What was not read yet when the program begins.

use std::fmt;

use serde::Serialize;

/// What of the first reading of everything is not done yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unread {
    /// How many network namespaces are left whose sockets were not listed, of how many.
    pub namespaces: Option<(usize, usize)>,
    /// How many processes are left whose descriptors were not read, of how many.
    pub processes: Option<(usize, usize)>,
    /// Whether what was counted before the start is still being read.
    pub past: bool,
}

impl Unread {
    /// Whether anything is left.
    pub fn is_anything(&self) -> bool {
        *self != Unread::default()
    }

    /// What is left of either: more of it where both have some of a kind.
    pub fn and(self, other: Unread) -> Unread {
        Unread {
            namespaces: self.namespaces.max(other.namespaces),
            processes: self.processes.max(other.processes),
            past: self.past || other.past,
        }
    }
}

/// `the sockets of 143 of 204 network namespaces and what was sent and received before the start`
impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some((left, all)) = self.namespaces {
            parts.push(format!("the sockets of {left} of {all} network namespaces"));
        }
        if let Some((left, all)) = self.processes {
            parts.push(format!("the descriptors of {left} of {all} processes"));
        }
        if self.past {
            parts.push("what was sent and received before the start".to_owned());
        }
        let Some((last, others)) = parts.split_last() else { return Ok(()) };
        match others.is_empty() {
            true => f.write_str(last),
            false => write!(f, "{} and {last}", others.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_listed() {
        let nothing = Unread::default();
        assert_eq!((nothing.is_anything(), nothing.to_string()), (false, String::new()));
        let namespaces = Unread { namespaces: Some((143, 204)), ..nothing };
        assert_eq!(namespaces.to_string(), "the sockets of 143 of 204 network namespaces");
        let others = Unread { namespaces: None, processes: Some((1, 20)), past: true };
        assert!(others.is_anything());
        assert_eq!(
            namespaces.and(others).to_string(),
            "the sockets of 143 of 204 network namespaces, the descriptors of 1 of 20 processes and \
             what was sent and received before the start"
        );
    }
}
