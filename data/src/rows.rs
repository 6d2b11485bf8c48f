//! The texts in a parquet file, as the hub's data sets have them.

use std::{fs::File, path::Path};

use anyhow::{Context, Result};
use parquet::{
    column::reader::{ColumnReaderImpl, get_typed_column_reader},
    data_type::{ByteArray, ByteArrayType},
    file::reader::{FileReader, SerializedFileReader},
};

use crate::shards::{Chunk, Piece, Place};

/// How much text is read at once, in bytes, and how many rows between two looks at how much it is.
const CHUNK: usize = 4 << 20;
const ROWS: usize = 100;

/// Where the rows of a file change from one split to the other.
#[derive(Clone, Copy)]
pub(crate) struct Border {
    /// The byte before which the first split is, were its rows all of one length.
    pub byte: u64,
    pub splits: [&'static str; 2],
}

/// A column of a parquet file that has texts, of which each is a document.
pub(crate) struct Rows {
    reader: SerializedFileReader<File>,
    column: usize,
    size: u64,
    rows: u64,
    place: Place,
    /// The row from which on all belong to the second split, and the two; none if that is not for the file to say.
    border: Option<(u64, [&'static str; 2])>,
    /// The row group that comes next, and what is left of the one before it.
    next_group: usize,
    group: Option<ColumnReaderImpl<ByteArrayType>>,
}

impl Rows {
    /// The texts in the column `field` from a place on.
    ///
    /// # Errors
    /// When it cannot be read, is no parquet file, or has no such column.
    pub fn open(
        path: &Path,
        size: u64,
        field: &str,
        from: Place,
        border: Option<Border>,
    ) -> Result<Self> {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        let file = reader.metadata().file_metadata();
        let columns = file.schema_descr().columns();
        let is_text = |column: &parquet::schema::types::ColumnDescPtr| {
            column.path().string() == field
                && column.physical_type() == parquet::basic::Type::BYTE_ARRAY
                && column.max_rep_level() == 0
        };
        let column = columns.iter().position(is_text).with_context(|| {
            let names: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
            let names = names.into_iter().take(10).collect::<Vec<_>>();
            format!("it has no column `{field}` with texts, but {names:?}; name one with --field")
        })?;
        let rows = file.num_rows() as u64;
        let row = |byte: u64| (rows as f64 * byte as f64 / size.max(1) as f64).ceil() as u64;
        let border = border.map(|border| (row(border.byte).min(rows), border.splits));
        let (next_group, group) = (0, None);
        let mut all = Self { reader, column, size, rows, place: from, border, next_group, group };
        all.pass_over(from.at)?;
        Ok(all)
    }

    fn pass_over(&mut self, mut rows: u64) -> Result<()> {
        let groups = self.reader.metadata().row_groups();
        let sizes: Vec<u64> = groups.iter().map(|group| group.num_rows() as u64).collect();
        while self.next_group < sizes.len() && rows >= sizes[self.next_group] {
            rows -= sizes[self.next_group];
            self.next_group += 1;
        }
        if rows > 0
            && let Some(group) = self.group()?
        {
            group.skip_records(rows as usize)?;
        }
        Ok(())
    }

    /// The row group that is being read, or the next; none after the last.
    fn group(&mut self) -> Result<Option<&mut ColumnReaderImpl<ByteArrayType>>> {
        if self.group.is_none() && self.next_group < self.reader.num_row_groups() {
            let group = self.reader.get_row_group(self.next_group)?;
            self.group = Some(get_typed_column_reader(group.get_column_reader(self.column)?));
            self.next_group += 1;
        }
        Ok(self.group.as_mut())
    }

    fn read(&mut self) -> Result<Chunk> {
        let place = self.place;
        let (end, split) = match self.border {
            Some((row, [before, _])) if place.at < row => (row, Some(before)),
            Some((_, [_, after])) => (self.rows, Some(after)),
            None => (self.rows, None),
        };
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK && self.place.at < end {
            let wanted = ROWS.min((end - self.place.at) as usize);
            let Some(group) = self.group()? else { break };
            let (mut texts, mut levels) = (Vec::<ByteArray>::new(), Vec::new());
            // A row without a text has a level, and no value.
            let (rows, ..) = group.read_records(wanted, Some(&mut levels), None, &mut texts)?;
            if rows == 0 {
                self.group = None;
            }
            self.place.at += rows as u64;
            for text in texts.iter().filter(|text| !text.is_empty()) {
                let text = text.as_utf8().context("a text in it is no UTF-8")?.to_string();
                bytes += text.len();
                pieces.push(Piece { text, begins: true });
            }
        }
        let read = (self.size as f64 * self.place.at as f64 / self.rows.max(1) as f64) as u64;
        Ok(Chunk { place, read, split, pieces })
    }
}

impl Iterator for Rows {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.place.at < self.rows).then(|| self.read())
    }
}
