//! Migrations: numbered, applied once, all pending ones or none, after a copy of what was there.

use std::fs;
use std::path::{Path, PathBuf};

use agentbot_wire::Code;
use refinery::Runner;
use refinery::error::Kind;
use rusqlite::{Connection, OptionalExtension};

use super::error::{RESTORE, file_error};
use super::file::{beside, make_private, put_in_place, remove};
use super::writer::guarded;
use crate::error::{Error, Result};

mod embedded {
    refinery::embed_migrations!("src/store/migrations");
}

/// A migration that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema found.
    pub from: i32,
    /// The schema now.
    pub to: i32,
    /// The database as it was before.
    pub copy: PathBuf,
}

/// The migrations of this version. One transaction for all that are pending: a crash leaves the old schema.
pub(super) fn runner() -> Runner {
    embedded::migrations::runner().set_grouped(true)
}

/// Refuses a schema that this version cannot bring up.
pub(super) fn check(conn: &Connection, runner: &Runner) -> Result<()> {
    let (found, known) = (version(conn)?, newest(runner));
    if found <= known {
        return Ok(());
    }
    let message = format!("the database has schema {found}, this version of Agentbot knows {known}");
    Err(Error::new(Code::Unsupported, message).hint(format!(
        "nothing was changed; run the newer version again, or put back its copy agentbot.db.before-v{}",
        known + 1
    )))
}

/// Applies what is pending to an existing database, after a copy.
pub(super) fn bring_up(conn: &mut Connection, path: &Path, runner: &Runner, keep: usize) -> Result<Option<Migrated>> {
    let (from, to) = (version(conn)?, newest(runner));
    if from == to {
        // Finds a migration that was changed after it had been applied.
        return run(conn, runner).map(|()| None);
    }
    let copy = copy(conn, path, to)?;
    apply(conn, runner)?;
    prune(path, keep);
    Ok(Some(Migrated { from, to, copy }))
}

/// Runs what is pending, without a copy.
pub(super) fn apply(conn: &mut Connection, runner: &Runner) -> Result<()> {
    // A migration that rebuilds a table would otherwise delete what refers to it; it is checked below instead.
    conn.pragma_update(None, "foreign_keys", false)?;
    let done = run(conn, runner);
    conn.pragma_update(None, "foreign_keys", true)?;
    done?;
    let dangling: Option<String> = conn.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()?;
    match dangling {
        None => Ok(()),
        Some(table) => {
            Err(Error::new(Code::Internal, format!("after the migration rows of `{table}` refer to what is not there"))
                .hint("put the copy from before it in place of agentbot.db and run the version that was here before"))
        }
    }
}

/// The history table can hold what its library cannot read, and it panics then.
fn run(conn: &mut Connection, runner: &Runner) -> Result<()> {
    guarded(|| runner.run(conn).map(drop).map_err(|error| explain(&error)))
}

fn explain(error: &refinery::Error) -> Error {
    match error.kind() {
        Kind::Connection(_, source) => match source.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(failure, text)) => {
                rusqlite::Error::SqliteFailure(*failure, text.clone()).into()
            }
            _ => Error::internal(error.to_string()),
        },
        Kind::DivergentVersion(..) | Kind::MissingVersion(..) => {
            Error::new(Code::Unsupported, "the database was brought up by another version of Agentbot")
                .hint("nothing was changed; run the version that was here before, or put a copy back")
                .caused_by(error.to_string())
        }
        _ => Error::internal(error.to_string()),
    }
}

fn newest(runner: &Runner) -> i32 {
    runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
}

fn version(conn: &Connection) -> Result<i32> {
    conn.query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get::<_, Option<i32>>(0))
        .ok()
        .flatten()
        .ok_or_else(|| Error::new(Code::Internal, "the database does not say what its schema is").hint(RESTORE))
}

fn copy(conn: &Connection, path: &Path, to: i32) -> Result<PathBuf> {
    let copy = beside(path, &format!("{COPY}{to}"));
    let new = beside(&copy, ".new");
    remove(&new)?;
    make_private(&new)?;
    let name = new.to_str().ok_or_else(|| Error::invalid("state directory", "its path must be UTF-8"))?;
    let made = conn.execute("VACUUM INTO ?1", [name]).map_err(Error::from).and_then(|_| put_in_place(&new, &copy));
    if let Err(error) = made {
        // The error that matters is the one at hand.
        let _ = remove(&new);
        return Err(error);
    }
    Ok(copy)
}

const COPY: &str = ".before-v";

/// Removes all but the newest copies. A copy that stays is no reason not to start.
fn prune(path: &Path, keep: usize) {
    let removed = copies(path).and_then(|copies| {
        let surplus = copies.len().saturating_sub(keep.max(1));
        copies.iter().take(surplus).try_for_each(|(_, copy)| remove(copy))
    });
    if let Err(error) = removed {
        tracing::warn!(%error, "old copies of the database stay");
    }
}

/// Copies from before migrations, oldest first.
fn copies(path: &Path) -> Result<Vec<(i32, PathBuf)>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| file_error("list", dir, error))? {
        let entry = entry.map_err(|error| file_error("list", dir, error))?;
        let file = entry.file_name();
        let version = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix(COPY)?.parse().ok());
        found.extend(version.map(|version| (version, entry.path())));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_directory_is_embedded() {
        let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations")).unwrap().count();
        assert_eq!(runner().get_migrations().len(), files);
    }

    #[test]
    fn only_the_newest_copies_stay_and_nothing_else_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agentbot.db");
        for name in
            ["", ".before-v2", ".before-v9", ".before-v10", ".before-v3", ".before-vx", ".before-v4.new", "-wal"]
        {
            fs::write(beside(&path, name), "").unwrap();
        }
        prune(&path, 2);
        let kept: Vec<i32> = copies(&path).unwrap().into_iter().map(|(version, _)| version).collect();
        assert_eq!(kept, [9, 10]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
    }
}
