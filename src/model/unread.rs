//! The part of the first reading that is not done yet.

use std::fmt;

use serde::Serialize;

/// The part of the first reading that is not done yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unread {
    /// Network namespaces whose sockets were not listed yet, of how many.
    pub namespaces: Option<(usize, usize)>,
    /// Processes whose descriptors were not read yet, of how many.
    pub processes: Option<(usize, usize)>,
    /// Whether the bytes counted before the start are still being read.
    pub past: bool,
}

impl Unread {
    /// Whether anything is left.
    pub fn is_anything(&self) -> bool {
        *self != Unread::default()
    }

    /// The sum of both.
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
