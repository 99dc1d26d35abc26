//! From rows to values: what does not read back is an error that names the column, never a default.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::types::FromSql;
use rusqlite::{CachedStatement, Params, Row};
use serde::de::DeserializeOwned;

use super::{damaged, time};
use crate::error::{Error, Result};

/// A row's columns, taken one after another: by number, since looking names up costs more than reading.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    at: usize,
}

impl<'a> Columns<'a> {
    /// From the first column on.
    pub(super) fn of(row: &'a Row<'a>) -> Self {
        Self { row, at: 0 }
    }

    /// The next column.
    pub(super) fn next<T: FromSql>(&mut self) -> Result<T> {
        let value = self.row.get(self.at)?;
        self.at += 1;
        Ok(value)
    }

    fn text(&mut self) -> Result<Option<&'a str>> {
        let text = self.row.get_ref(self.at)?.as_str_or_null().map_err(Error::internal)?;
        self.at += 1;
        Ok(text)
    }

    /// A column that holds the text of a typed value.
    pub(super) fn word<T: FromStr>(&mut self, what: &str) -> Result<T> {
        let text = self.text()?.unwrap_or_default();
        text.parse().map_err(|_| damaged(what, text))
    }

    /// A column that holds the text of a typed value or nothing.
    pub(super) fn maybe_word<T: FromStr>(&mut self, what: &str) -> Result<Option<T>> {
        self.text()?.map(|text| text.parse().map_err(|_| damaged(what, text))).transpose()
    }

    /// A column that holds one of a list of words.
    pub(super) fn known<T>(&mut self, what: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let text = self.text()?.unwrap_or_default();
        read(text).ok_or_else(|| damaged(what, text))
    }

    /// A column that holds JSON or nothing.
    pub(super) fn json<T: DeserializeOwned>(&mut self, what: &str) -> Result<Option<T>> {
        let Some(text) = self.text()? else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|error| damaged(what, text).caused_by(error))
    }

    /// A column that holds a time.
    pub(super) fn time(&mut self) -> Result<Timestamp> {
        time(self.next()?)
    }

    /// A column that holds a time or nothing.
    pub(super) fn maybe_time(&mut self) -> Result<Option<Timestamp>> {
        self.next::<Option<i64>>()?.map(time).transpose()
    }
}

/// The first row of a query, if there is one.
pub(super) fn one<T>(
    mut statement: CachedStatement<'_>,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    statement.query_and_then(params, read)?.next().transpose()
}

/// Every row of a query.
pub(super) fn many<T>(
    mut statement: CachedStatement<'_>,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    statement.query_and_then::<T, Error, _, _>(params, read)?.collect()
}
