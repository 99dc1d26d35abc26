//! From rows to values: what does not read back is an error that names the column, never a default.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Params, Row};

use super::{damaged, time};
use crate::error::{Error, Result};

/// A column that holds the text of a typed value.
pub(super) fn word<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| damaged(column, &text))
}

/// A column that holds one of a list of words.
pub(super) fn known<T>(row: &Row<'_>, column: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    let text: String = row.get(column)?;
    read(&text).ok_or_else(|| damaged(column, &text))
}

/// A column that holds a time or nothing.
pub(super) fn maybe_time(ms: Option<i64>) -> Result<Option<Timestamp>> {
    ms.map(time).transpose()
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
