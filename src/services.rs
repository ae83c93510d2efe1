//! The names of services by their ports: services(5).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use foldhash::fast::RandomState;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::escape::is_plain;

/// The names of the host.
const SERVICES: &str = "/etc/services";

/// Maximum bytes of that file. The whole list of the IANA has about 700 KiB.
const MOST: usize = 1 << 20;

/// The names of services.
#[derive(Debug, Default)]
pub(crate) struct Services {
    names: HashMap<(u8, u16), Box<str>, RandomState>,
}

impl Services {
    /// Reads `/etc/services`.
    ///
    /// # Errors
    /// Those of reading it. `InvalidData` if it is no regular file, or has more than 1 MiB.
    pub(crate) fn read() -> io::Result<Services> {
        Ok(Services::parse(&contents(Path::new(SERVICES))?))
    }

    /// Takes the content of a file of services(5). The first name of a port applies, as in getservbyport(3); lines
    /// and names in another form are left out.
    fn parse(file: &[u8]) -> Services {
        let mut services = Services::default();
        for line in file.split(|byte| *byte == b'\n') {
            // NAME PORT/PROTOCOL ALIASES # COMMENT
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let Some((name, key)) = std::str::from_utf8(line).ok().and_then(service) else {
                continue;
            };
            services.names.entry(key).or_insert_with(|| name.into());
        }
        services
    }

    /// The name of the service at a port of a protocol of IP: TCP (6), UDP (17), DCCP (33) or SCTP (132). It
    /// consists of ASCII letters, digits, `-`, `_` and `.`.
    pub(crate) fn name(&self, protocol: u8, port: u16) -> Option<&str> {
        self.names.get(&(protocol, port)).map(|name| &**name)
    }
}

/// The name, and the protocol and port, of a line without a comment.
fn service(line: &str) -> Option<(&str, (u8, u16))> {
    let mut words = line.split_ascii_whitespace();
    let (name, place) = (words.next()?, words.next()?);
    let (port, protocol) = place.split_once('/')?;
    let protocol = match protocol {
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "sctp" => 132,
        _ => return None,
    };
    // A number would be taken for another port.
    let is_name = is_plain(name.as_bytes()) && !name.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number)?;
    is_name.then_some((name, (protocol, port)))
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, what);
    // Opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::from(openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(invalid("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MOST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST {
        return Err(invalid("larger than 1 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{FileType, mknodat};

    use super::*;

    #[test]
    fn the_first_name_of_a_port() {
        let services = Services::parse(
            b"# Network services, Internet style\n\
              \n\
              ssh\t\t22/tcp\t\t\t\t# SSH Remote Login Protocol\n\
              domain\t\t53/tcp\n\
              domain 53/udp nameserver\n\
              http\t\t80/tcp\t\twww\n\
              \x20 www 80/tcp\n\
              z39.50\t\t210/tcp\r\n\
              h323_call-1 1720/sctp#close\n\
              rtp 5004/dccp\n\
              last\t\t65535/tcp",
        );
        for (protocol, port, name) in [
            (6, 22, Some("ssh")),
            (17, 22, None),
            (6, 53, Some("domain")),
            (17, 53, Some("domain")),
            (6, 80, Some("http")),
            (6, 210, Some("z39.50")),
            (132, 1720, Some("h323_call-1")),
            (33, 5004, Some("rtp")),
            (6, 65535, Some("last")),
            (1, 22, None),
        ] {
            assert_eq!(services.name(protocol, port), name, "{protocol} {port}");
        }
        assert_eq!(services.names.len(), 8);
    }

    #[test]
    fn lines_that_name_no_service() {
        let long = "a".repeat(254);
        for line in [
            "",
            "ssh",
            "ssh 22",
            "ssh 22/",
            "ssh /tcp",
            "ssh 22/tcp/udp",
            "ssh 22/ddp",
            "ssh 22/TCP",
            "ssh +22/tcp",
            "ssh -22/tcp",
            "ssh 65536/tcp",
            "ssh 22 /tcp",
            "#ssh 22/tcp",
            "ssh #22/tcp",
            "80 22/tcp",
            "s\u{1b}[2Jsh 22/tcp",
            "s\u{0}sh 22/tcp",
            "ssh\u{202e} 22/tcp",
            "sch\u{f6}n 22/tcp",
            "(kernel) 22/tcp",
            "a/b 22/tcp",
            "<b> 22/tcp",
            &format!("{long} 22/tcp"),
        ] {
            let services = Services::parse(line.as_bytes());
            assert!(services.names.is_empty(), "{line:?}: {services:?}");
        }
        // They keep no other line from being read, and no name takes the place of another one.
        let services =
            Services::parse(b"\xff\xfe 22/tcp\n\0\0\n$(x) 22/tcp\nssh 22/tcp\nother 22/tcp\n");
        assert_eq!(services.name(6, 22), Some("ssh"));
    }

    #[test]
    fn the_host_s_file() {
        let names = |services: Services| services.names;
        let expected = fs::read(SERVICES).map(|file| names(Services::parse(&file)));
        let read = Services::read().map(names).map_err(|error| error.kind());
        assert_eq!(read, expected.map_err(|error| error.kind()));
    }

    #[test]
    fn a_file_that_is_none_is_an_error() {
        let path = std::env::temp_dir().join(format!("bwmon-services-{}", std::process::id()));
        let kind = |path: &Path| contents(path).map_err(|error| error.kind());
        assert_eq!(kind(&path), Err(ErrorKind::NotFound));
        let mut largest = b"ssh 22/tcp\n".to_vec();
        largest.resize(MOST, b'#');
        fs::write(&path, &largest).unwrap();
        let read = contents(&path).unwrap();
        assert_eq!((read.len(), Services::parse(&read).name(6, 22)), (MOST, Some("ssh")));
        largest.push(b'#');
        fs::write(&path, &largest).unwrap();
        assert_eq!(kind(&path), Err(ErrorKind::InvalidData));
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert_eq!(kind(&path), Err(ErrorKind::InvalidData));
        fs::remove_file(&path).unwrap();
        assert_eq!(kind(&std::env::temp_dir()), Err(ErrorKind::InvalidData));
        assert_eq!(kind(Path::new("/dev/zero")), Err(ErrorKind::InvalidData));
    }
}
