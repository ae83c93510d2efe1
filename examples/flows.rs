//! Parses lines of connection tracking (`conntrack -L`, `/proc/net/nf_conntrack`) from standard input, and prints the
//! bytes of each flow: `conntrack -L | flows`.

use std::io;

use bwmon::conntrack::text::parse_line;

fn main() -> anyhow::Result<()> {
    for line in io::stdin().lines() {
        let line = line?;
        match parse_line(line.as_bytes()) {
            Ok(flow) => match flow.counters {
                Some(counters) => println!(
                    "{}: {} bytes there, {} bytes back",
                    flow.original, counters.original, counters.reply
                ),
                None => println!("{}: not counted", flow.original),
            },
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
