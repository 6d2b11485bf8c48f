//! numpy's file format, as far as shards have it: a line of Python that says what follows, then the numbers.
//!
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use super::count;
use crate::text::printable;
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Headers are padded to a multiple of this.
const ALIGNMENT: usize = 64;

/// A longer header is no shard's: ours have 128 bytes.
const LONGEST_HEADER: u32 = 65_536;

/// How many digits the length may grow to in place; numpy leaves that much room.
const DIGITS: usize = 21;

const SAVE: &str = "save it with `np.save(path, tokens.astype(np.uint16))`";

/// Writes tokens as `np.save` does, byte for byte.
pub(super) fn write(file: &mut dyn Write, tokens: &[u16]) -> Result<()> {
    file.write_all(&header(tokens.len()))?;
    for piece in tokens.chunks(32_768) {
        let mut bytes = vec![0; 2 * piece.len()];
        for (pair, token) in bytes.chunks_exact_mut(2).zip(piece) {
            pair.copy_from_slice(&token.to_le_bytes());
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// The header of a file of `n` numbers.
fn header(n: usize) -> Vec<u8> {
    let room = DIGITS.saturating_sub(n.to_string().len());
    let dict = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({n},), }}{:room$}", "");
    let before = MAGIC.len() + 2 + 2; // the version, and the header's length
    let length = (before + dict.len() + 1).next_multiple_of(ALIGNMENT) - before;
    let mut header = MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{dict:<0$}\n", length - 1).bytes());
    header
}

/// Where the numbers of a file begin, in bytes, and how many there are, of a file that is `length` bytes long.
pub(super) fn read_header(file: &mut impl Read, length: u64) -> Result<(u64, u64)> {
    let (offset, header) = header_text(file)
        .context("it is no shard, which begins as numpy's files do; take it out of the folder, or prepare it again")?;
    let descr = value(&header, "descr");
    ensure!(
        matches!(descr, Some("'<u2'")),
        "its numbers are {}, and a shard's are uint16 ('<u2'); {SAVE}",
        descr.map_or("of no kind that can be told".into(), printable)
    );
    let n = match dimensions(&header)?[..] {
        [n] => n,
        ref more => bail!("it has {} dimensions, and a shard has one; {SAVE}", more.len()),
    };
    ensure!(n > 0, "it holds no tokens; take it out of the folder");
    let there = length.saturating_sub(offset) / 2;
    ensure!(
        there >= n,
        "it is cut off: its header promises {} tokens, and {} are there; prepare it again",
        count(n),
        count(there)
    );
    ensure!(
        length == offset + 2 * n,
        "it is longer than the {} tokens that its header promises; prepare it again",
        count(n)
    );
    Ok((offset, n))
}

/// The length of the header in bytes, and its text.
fn header_text(file: &mut impl Read) -> Result<(u64, String)> {
    let mut start = [0; 8];
    file.read_exact(&mut start)?;
    ensure!(start.starts_with(MAGIC));
    let mut length = [0; 4];
    let size = if start[6] == 1 { 2 } else { 4 };
    file.read_exact(&mut length[..size])?;
    let length = u32::from_le_bytes(length);
    ensure!(length <= LONGEST_HEADER);
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    Ok(((8 + size) as u64 + u64::from(length), String::from_utf8(text)?))
}

/// What a key has in Python's notation: `'<u2'`, `(100, 2)`.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    let rest = rest.trim_start();
    let end = match rest.chars().next()? {
        '(' => rest.find(')')? + 1,
        '[' => rest.rfind(']')? + 1,
        _ => rest.find([',', '}'])?,
    };
    Some(rest[..end].trim_end())
}

fn dimensions(header: &str) -> Result<Vec<u64>> {
    let read = || -> Option<Vec<u64>> {
        let shape = value(header, "shape")?.strip_prefix('(')?.strip_suffix(')')?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        sizes.map(|size| size.parse().ok()).collect()
    };
    read().with_context(|| format!("its header does not say how long it is; {SAVE}"))
}
