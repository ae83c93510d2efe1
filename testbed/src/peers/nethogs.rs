//! nethogs in its trace mode (`-t`).

use super::Shown;

/// A line `COMMAND LINE/PID/UID<tab>SENT<tab>RECEIVED`, in six digits, like 3.01204e+06. The name has the numbers.
pub fn line(line: &str) -> Option<Shown<'_>> {
    let mut fields = line.rsplitn(3, '\t');
    let received = fields.next()?.parse().ok()?;
    let sent = fields.next()?.parse().ok()?;
    Some(Shown { name: fields.next()?, received, sent })
}

/// The name without the numbers of process and user.
pub fn command(name: &str) -> &str {
    name.rsplitn(3, '/').last().unwrap_or_default()
}
