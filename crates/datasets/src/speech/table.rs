//! The little of CSV that our lists use: a header, commas, no quotes; every fault is located by its line's byte offset.
use std::path::{Component, Path};

use crate::DataError;

/// A list in memory.
pub(super) struct Table<'a> {
    path: &'a Path,
    header: Vec<&'a str>,
    pub(super) rows: Vec<Row<'a>>,
}

/// One line.
pub(super) struct Row<'a> {
    path: &'a Path,
    offset: u64,
    fields: Vec<&'a str>,
}

impl<'a> Table<'a> {
    pub(super) fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Table<'a>, DataError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| DataError::corrupt(path, e.valid_up_to() as u64, "not UTF-8 text"))?;
        let mut offset = 0u64;
        let mut rows = text.split_inclusive('\n').map(|line| {
            let row = Row { path, offset, fields: line.trim_end_matches(['\n', '\r']).split(',').collect() };
            offset += line.len() as u64;
            row
        });
        let header = rows.next().map(|row| row.fields).unwrap_or_default();
        let rows = rows.filter(|row| row.fields != [""]).collect();
        Ok(Table { path, header, rows })
    }

    /// Positions of the columns of these names.
    pub(super) fn columns<const N: usize>(&self, names: [&str; N]) -> Result<[usize; N], DataError> {
        let mut positions = [0; N];
        for (position, name) in positions.iter_mut().zip(names) {
            *position = self.header.iter().position(|column| *column == name).ok_or_else(|| {
                DataError::corrupt(self.path, 0, format!("no column `{name}` in `{}`", self.header.join(",")))
            })?;
        }
        Ok(positions)
    }
}

impl<'a> Row<'a> {
    pub(super) fn error(&self, reason: String) -> DataError {
        DataError::corrupt(self.path, self.offset, reason)
    }

    pub(super) fn field(&self, column: usize) -> Result<&'a str, DataError> {
        let missing = || self.error(format!("{} fields, more expected", self.fields.len()));
        self.fields.get(column).copied().ok_or_else(missing)
    }

    /// A number below `end`.
    pub(super) fn number<T>(&self, column: usize, end: T) -> Result<T, DataError>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let text = self.field(column)?;
        let number = text.parse::<T>().ok().filter(|number| *number < end);
        number.ok_or_else(|| self.error(format!("`{text}`, a number from 0 to below {end} expected")))
    }

    /// A relative path that stays inside its folder.
    pub(super) fn path(&self, column: usize) -> Result<&'a str, DataError> {
        let text = self.field(column)?;
        let inside = Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
        if text.is_empty() || !inside {
            return Err(self.error(format!("`{text}` is not a path inside the folder")));
        }
        Ok(text)
    }
}
