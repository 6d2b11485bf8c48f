//! Event files as TensorBoard reads them: records with checksums, and in each a protocol buffer, of whose fields we need
//! five.
//!
//! Source: TensorFlow's `record_writer.h`, `event.proto` and `summary.proto`.

use anyhow::Result;
use files::Records;
use std::{
    path::Path,
    process,
    time::{SystemTime, UNIX_EPOCH},
};

/// A file of scalars, one per start of a run.
pub struct EventFile(Records);

impl EventFile {
    /// Begins a file in a folder. For a run that goes on after `step` it tells TensorBoard to forget what an earlier
    /// one has of the steps behind it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(folder: &Path, step: usize) -> Result<Self> {
        let now = now();
        // TensorBoard reads a folder's files by name, so that the time comes first.
        let name = format!("events.out.tfevents.{:010}.nanogpt.{}", now as u64, process::id());
        let mut events = Self(Records::open(&folder.join(name))?);
        events.write(&version(now))?;
        if step > 0 {
            events.write(&start(now, step + 1))?;
        }
        Ok(events)
    }

    /// Adds the named numbers of a step, as of now.
    ///
    /// # Errors
    /// If they cannot be written, say since the disk is full.
    pub fn push(&mut self, step: usize, scalars: &[(&str, f64)]) -> Result<()> {
        self.write(&summary(now(), step, scalars))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.0.push(&record(event))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// What stands around an event in a file: its length, and a checksum of each of the two.
pub fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(event);
    record.extend(masked(crc32c(event)).to_le_bytes());
    record
}

/// The event with which a file begins, at a time in seconds since 1970.
pub fn version(time: f64) -> Vec<u8> {
    let mut event = double(1, time);
    event.extend(bytes(3, b"brain.Event:2"));
    event
}

/// The event that a run goes on: what earlier files have from `step` on is void.
pub fn start(time: f64, step: usize) -> Vec<u8> {
    let mut event = double(1, time);
    event.extend(integer(2, step as u64));
    event.extend(bytes(7, &integer(1, 1))); // a SessionLog whose status is START
    event
}

/// The event of a step's numbers.
pub fn summary(time: f64, step: usize, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut values = Vec::new();
    for (tag, value) in scalars {
        let mut scalar = bytes(1, tag.as_bytes());
        scalar.push(key(2, 5));
        scalar.extend((*value as f32).to_le_bytes());
        values.extend(bytes(1, &scalar));
    }
    let mut event = double(1, time);
    event.extend(integer(2, step as u64));
    event.extend(bytes(5, &values));
    event
}

/// What stands before a field of a protocol buffer: its number, and how its value is written.
fn key(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut text = vec![key(field, 1)];
    text.extend(value.to_le_bytes());
    text
}

/// A zero is the default, and is not written.
fn integer(field: u8, value: u64) -> Vec<u8> {
    if value == 0 {
        return Vec::new();
    }
    let mut text = vec![key(field, 0)];
    text.extend(varint(value));
    text
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut text = vec![key(field, 2)];
    text.extend(varint(value.len() as u64));
    text.extend(value);
    text
}

/// Seven bits in a byte, the lowest first; the eighth says that more come.
fn varint(mut value: u64) -> Vec<u8> {
    let mut text = Vec::new();
    while value >= 1 << 7 {
        text.push(value as u8 | 1 << 7);
        value >>= 7;
    }
    text.push(value as u8);
    text
}

/// Castagnoli's checksum, bit by bit: a record has some hundred bytes.
fn crc32c(text: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            crc = crc >> 1 ^ carry;
        }
    }
    !crc
}

/// A checksum of text that has checksums in it is weak, so that these are disguised.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283); // the check value of the catalogue of CRCs
    }
}
