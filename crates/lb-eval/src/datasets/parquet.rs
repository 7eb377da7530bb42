//! Rows of a Parquet file with flat columns, as JSON objects.
//!
//! Values are read row by row, but a page is decoded at once: that is the unit of the format. Hugging Face writes pages of
//! a megabyte, or of one value where that is larger.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lb_io::files::open_regular;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Map, Value};

use crate::fault::{Fault, FileFault};
use crate::{Error, Result};

/// A file in progress.
pub(crate) struct Rows {
    file: SerializedFileReader<File>,
    columns: Vec<Column>,
    group: usize,
    /// Rows of the open group that are still to come.
    left: i64,
    row: usize,
    limit: usize,
}

struct Column {
    name: String,
    max_level: i16,
    reader: ColumnReader,
}

/// One row: its fields, or the field that is at fault.
pub(crate) type Row = std::result::Result<Map<String, Value>, (Map<String, Value>, Fault)>;

impl Rows {
    /// # Errors
    /// [`FileFault::Parquet`] for damage, [`FileFault::Structure`] for nested columns.
    pub(super) fn open(path: &Path, limit: usize) -> Result<Self> {
        let file = open_regular(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let file = guarded(|| SerializedFileReader::new(file)).map_err(|e| dataset(path, e))?;
        let schema = file.metadata().file_metadata().schema_descr();
        if schema.columns().iter().any(|c| c.max_rep_level() > 0 || c.path().parts().len() != 1) {
            let expected = "columns of texts and numbers, not nested";
            return Err(dataset(path, FileFault::Structure { line: 1, expected }));
        }
        Ok(Self { file, columns: Vec::new(), group: 0, left: 0, row: 0, limit })
    }

    /// The number of the row, from 1, and the row; `None` behind the last.
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<(usize, Row)>> {
        while self.left == 0 {
            if self.group == self.file.num_row_groups() {
                return Ok(None);
            }
            self.open_group().map_err(|e| dataset(path, e))?;
        }
        self.left -= 1;
        self.row += 1;
        let mut map = Map::new();
        let mut fault = None;
        for column in &mut self.columns {
            let cell = guarded(|| cell(column)).map_err(|e| dataset(path, e))?;
            let found = cell.and_then(|value| match value {
                Value::String(text) if text.len() > self.limit => Err(Fault::TooLarge { limit: self.limit }),
                value => Ok(value),
            });
            match found {
                Ok(value) => {
                    map.insert(column.name.clone(), value);
                }
                Err(found) => fault = fault.or(Some(found)),
            }
        }
        let row = match fault {
            None => Ok(map),
            Some(fault) => Err((map, fault)),
        };
        Ok(Some((self.row, row)))
    }

    fn open_group(&mut self) -> std::result::Result<(), FileFault> {
        let (file, index) = (&self.file, self.group);
        let (columns, left) = guarded(|| {
            let group = file.get_row_group(index)?;
            let columns = (0..group.num_columns()).map(|i| {
                let descr = group.metadata().column(i).column_descr_ptr();
                let reader = group.get_column_reader(i)?;
                Ok(Column { name: descr.name().to_owned(), max_level: descr.max_def_level(), reader })
            });
            Ok((columns.collect::<std::result::Result<Vec<_>, ParquetError>>()?, group.metadata().num_rows()))
        })?;
        (self.columns, self.left) = (columns, left.max(0));
        self.group += 1;
        Ok(())
    }
}

fn dataset(path: &Path, source: FileFault) -> Error {
    Error::Dataset { path: path.to_path_buf(), source }
}

/// The decoder asserts what the format promises; a damaged file breaks promises.
fn guarded<T>(
    decode: impl FnOnce() -> std::result::Result<T, ParquetError>,
) -> std::result::Result<T, FileFault> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(FileFault::Parquet { reason: e.to_string() }),
        Err(_) => Err(FileFault::Parquet { reason: "the decoder gave up".to_owned() }),
    }
}

/// The next value of a column; the inner error is one of this row alone.
fn cell(column: &mut Column) -> std::result::Result<std::result::Result<Value, Fault>, ParquetError> {
    let level = column.max_level;
    Ok(match &mut column.reader {
        ColumnReader::BoolColumnReader(r) => Ok(one(r, level)?.map_or(Value::Null, Value::from)),
        ColumnReader::Int32ColumnReader(r) => Ok(one(r, level)?.map_or(Value::Null, Value::from)),
        ColumnReader::Int64ColumnReader(r) => Ok(one(r, level)?.map_or(Value::Null, Value::from)),
        ColumnReader::FloatColumnReader(r) => Ok(one(r, level)?.map_or(Value::Null, Value::from)),
        ColumnReader::DoubleColumnReader(r) => Ok(one(r, level)?.map_or(Value::Null, Value::from)),
        ColumnReader::ByteArrayColumnReader(r) => match one::<parquet::data_type::ByteArrayType>(r, level)? {
            None => Ok(Value::Null),
            Some(bytes) => text(&bytes),
        },
        _ => Ok(Value::Null),
    })
}

fn text(bytes: &ByteArray) -> std::result::Result<Value, Fault> {
    match std::str::from_utf8(bytes.data()) {
        Ok(text) => Ok(Value::from(text)),
        Err(e) => Err(Fault::NotUtf8 { at: e.valid_up_to() }),
    }
}

fn one<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    max_level: i16,
) -> std::result::Result<Option<T::T>, ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(1), Vec::with_capacity(1));
    let wanted = (max_level > 0).then_some(&mut levels);
    let (records, ..) = reader.read_records(1, wanted, None, &mut values)?;
    if records == 0 {
        return Err(ParquetError::EOF("a column is shorter than its row group".to_owned()));
    }
    Ok(values.pop())
}
