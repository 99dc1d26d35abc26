//! Between columns and values. What cannot be read back is a damaged row, and says which value.

use std::fmt::Display;
use std::str::FromStr;

use agentbot_wire::Code;
use jiff::Timestamp;

use crate::error::{Error, Result};

/// A time as its column holds it: milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn ms(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// The time of a column of milliseconds.
///
/// # Errors
/// The number lies outside the years that a time can have.
pub fn time(ms: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(ms).map_err(|error| damaged("time", ms).caused_by(error))
}

/// The present, as exactly as a column holds it: what is stored equals what is read back.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// The value of a column that holds text of a known form; `what` names it for the error.
///
/// # Errors
/// The text does not have that form.
pub fn parsed<T>(what: &str, text: &str) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| damaged(what, text).caused_by(error))
}

/// A row that holds what we never write.
#[must_use]
pub fn damaged(what: &str, value: impl Display) -> Error {
    Error::new(Code::Internal, format!("the database holds a {what} that cannot be read: `{value}`"))
        .hint("something else wrote to agentbot.db; restore a good copy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentbot_wire::InstanceId;

    #[test]
    fn a_time_reads_back_as_itself() {
        let at = now();
        assert_eq!(time(ms(at)).unwrap(), at);
        let before_the_epoch: Timestamp = "1969-12-31T23:59:59.999Z".parse().unwrap();
        assert_eq!(time(ms(before_the_epoch)).unwrap(), before_the_epoch);
    }

    #[test]
    fn what_no_time_can_be_is_refused() {
        assert_eq!(time(i64::MAX).unwrap_err().code(), Code::Internal);
        assert!(time(i64::MIN).is_err());
    }

    #[test]
    fn a_damaged_id_is_named() {
        let error = parsed::<InstanceId>("instance", "ins_?").unwrap_err();
        assert!(error.message().contains("instance") && error.message().contains("ins_?"));
    }
}
