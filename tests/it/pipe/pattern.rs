//! Bytes that tell their own position, and the chance that cuts them into pieces.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testbed::streams::read_some;

/// One step of SplitMix64: every input has an output of its own that looks like chance.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of bytes that never repeats: one lost, doubled or swapped anywhere makes a difference,
/// and so does a byte of another stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern(u64);

impl Pattern {
    /// The stream of this number.
    pub(super) fn new(number: u64) -> Pattern {
        Pattern(mix(number))
    }

    /// `length` bytes, the first of them at `offset` of the stream.
    pub(super) fn bytes(self, offset: u64, length: usize) -> Vec<u8> {
        let skipped = (offset % 8) as usize;
        let words = (offset / 8)..=((offset + length as u64) / 8);
        let bytes: Vec<u8> =
            words.flat_map(|word| mix(self.0.wrapping_add(word)).to_le_bytes()).collect();
        bytes[skipped..skipped + length].to_vec()
    }

    /// Fails unless these are the bytes at `offset`, and says where they begin to differ.
    pub(super) fn check(self, offset: u64, got: &[u8]) {
        let expected = self.bytes(offset, got.len());
        if expected != got {
            let at = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
            panic!("the stream differs at byte {}, of a piece at {offset}", offset + at as u64);
        }
    }

    /// Writes the first `size` bytes, in pieces and with pauses of chance.
    pub(super) fn write(self, mut to: &TcpStream, size: u64, chance: &mut Chance) {
        let mut offset = 0;
        while offset < size {
            // Mostly large, else ten megabytes take for ever; often tiny, where the edges are.
            let most = if chance.one_in(3) { 100 } else { 200_000 };
            let length = (1 + chance.below(most)).min(size - offset);
            let piece = self.bytes(offset, length as usize);
            to.write_all(&piece)
                .unwrap_or_else(|error| panic!("writing {length} at {offset}: {error}"));
            offset += length;
            if chance.one_in(16) {
                thread::sleep(Duration::from_micros(chance.below(2000)));
            }
        }
    }

    /// Reads and checks until the stream ends; how many bytes that were, and whether its end was
    /// the ordinary one.
    pub(super) fn read(self, from: &TcpStream, chance: &mut Chance) -> (u64, io::Result<()>) {
        let mut offset = 0;
        let mut buffer = vec![0; 100_000];
        loop {
            let most = 1 + chance.below(buffer.len() as u64) as usize;
            match read_some(from, &mut buffer[..most]) {
                Ok(0) => return (offset, Ok(())),
                Ok(length) => {
                    self.check(offset, &buffer[..length]);
                    offset += length as u64;
                }
                Err(error) => return (offset, Err(error)),
            }
            if chance.one_in(32) {
                thread::sleep(Duration::from_micros(chance.below(1000)));
            }
        }
    }

    /// Reads and checks exactly `size` bytes at `offset`.
    pub(super) fn read_part(self, mut from: &TcpStream, offset: u64, size: u64) {
        let mut buffer = vec![0; size as usize];
        from.read_exact(&mut buffer)
            .unwrap_or_else(|error| panic!("{size} bytes at {offset} don't come: {error}"));
        self.check(offset, &buffer);
    }

    /// Fails unless exactly `size` bytes come, and then the ordinary end.
    pub(super) fn expect_all(self, from: &TcpStream, size: u64, chance: &mut Chance) {
        let (got, end) = self.read(from, chance);
        end.unwrap_or_else(|error| panic!("after {got} of {size} bytes: {error}"));
        assert_eq!(got, size, "the stream ended at another byte");
    }
}

/// Writes a whole stream and says that this was all.
pub(super) fn send(to: &TcpStream, pattern: Pattern, size: u64, chance: &mut Chance) {
    pattern.write(to, size, chance);
    to.shutdown(Shutdown::Write).unwrap();
}

/// Chance that can be had again: from the seed that is printed, given back in `BWMON_SEED`.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// Prints its seed, which the test runner shows if the test fails.
    pub(super) fn new() -> Chance {
        let given = std::env::var("BWMON_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into()
        });
        println!("BWMON_SEED={seed}");
        Chance(mix(seed))
    }

    /// A number less than `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % limit
    }

    /// Whether one of so many came up.
    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// Chance of its own for another thread.
    pub(super) fn fork(&mut self) -> Chance {
        Chance(mix(self.below(u64::MAX)))
    }
}

#[test]
fn a_pattern_tells_positions_and_streams_apart() {
    let pattern = Pattern::new(1);
    let whole = pattern.bytes(0, 4000);
    for offset in [0, 1, 7, 8, 9, 1000] {
        pattern.check(offset, &whole[offset as usize..]);
        assert_ne!(pattern.bytes(offset + 8, 100), pattern.bytes(offset, 100));
    }
    assert_ne!(Pattern::new(2).bytes(0, 100), pattern.bytes(0, 100));
    assert!(std::panic::catch_unwind(|| pattern.check(1, &whole)).is_err());
}
