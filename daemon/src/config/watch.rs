//! Follows the configuration file: changed, it is read, checked and put in force.
//!
//! The directory is watched, not the file: editors and container platforms replace files by renaming others over them.
//! Only the content decides whether something changed. A slow period catches what no notice is given of, such as a
//! directory that was not there at the start.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, DebouncedEvent, Debouncer, RecommendedCache, new_debouncer};

use super::{DEFAULT_PATH, Live, Mistakes, parse, source};
use crate::error::{Error, Result};
use crate::task::{Activator, Driver, Task};

/// Quiet time after the last change of the directory: an editor makes several changes to save once.
const SETTLE: Duration = Duration::from_millis(200);
/// How often the file is looked at without being told.
const PERIOD: Duration = Duration::from_secs(30);

/// Keeps the watch alive; dropped, only the period is left.
#[derive(Debug)]
pub struct Watch {
    activator: Activator,
    _watcher: Option<Debouncer<RecommendedWatcher, RecommendedCache>>,
}

impl Watch {
    /// Reads the file again now, changed or not.
    #[must_use]
    pub fn activator(&self) -> &Activator {
        &self.activator
    }
}

/// Follows the file that [`super::load`] read with the same `path`, and keeps `live` up to date.
#[must_use]
pub fn follow(driver: &Driver, path: Option<&Path>, live: &Live) -> Watch {
    follow_with(driver, path, live, PERIOD)
}

fn follow_with(driver: &Driver, path: Option<&Path>, live: &Live, period: Duration) -> Watch {
    let file = path.unwrap_or_else(|| Path::new(DEFAULT_PATH)).to_owned();
    let activator = Activator::new();
    let watcher = match notices(&file, activator.clone()) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::info!(
                "changes of {} are seen within {} s: its directory cannot be watched: {error}",
                file.display(),
                period.as_secs()
            );
            None
        }
    };
    let reload = Reload { file, live: live.clone(), seen: None, expected: path.is_some() };
    driver.spawn(reload, move || period, activator.clone());
    Watch { activator, _watcher: watcher }
}

fn notices(file: &Path, activator: Activator) -> notify::Result<Debouncer<RecommendedWatcher, RecommendedCache>> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = file.file_name().map(OsStr::to_owned).unwrap_or_default();
    let mut watcher = new_debouncer(SETTLE, None, move |result: DebounceEventResult| {
        if is_change(&result, &name) {
            activator.activate();
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether the file may have changed. Reading is an event too, and our own reading must not wake us; neither must a
/// neighbour, unless its name begins with `..`: Kubernetes moves a link of such a name to change all files at once.
fn is_change(result: &DebounceEventResult, name: &OsStr) -> bool {
    let concerns = |path: &PathBuf| {
        path.file_name().is_none_or(|found| found == name || found.as_encoded_bytes().starts_with(b".."))
    };
    let changes = |event: &DebouncedEvent| {
        !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(concerns))
    };
    result.as_ref().map_or(true, |events| events.iter().any(changes))
}

/// The task that reads the file.
struct Reload {
    file: PathBuf,
    live: Live,
    /// What was read last.
    seen: Option<String>,
    /// Whether the file should be there: it was named, or has been there.
    expected: bool,
}

impl Task for Reload {
    fn name(&self) -> &'static str {
        "config_reload"
    }

    async fn activate(&mut self) -> Result<String> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || source::read(&file)).await.map_err(Error::internal)?;
        let text = match read {
            Ok(Some(text)) if self.seen.as_ref() == Some(&text) => return self.unchanged(),
            Ok(Some(text)) => text,
            Ok(None) if !self.expected => return Ok("there is no file: defaults".to_owned()),
            Ok(None) => {
                return self.refuse(Mistakes::of_file(&self.file, "the file is gone; its settings stay in force"));
            }
            Err(mistakes) => return self.refuse(mistakes),
        };
        self.expected = true;
        let outcome = self.live.apply(parse(&self.file, &text));
        self.seen = Some(text);
        let said = outcome.map_err(|problem| kept(&problem))?;
        for warning in self.live.warnings() {
            tracing::warn!("{}: {warning}", self.file.display());
        }
        Ok(said.to_owned())
    }
}

impl Reload {
    fn unchanged(&self) -> Result<String> {
        self.live.last_error().map_or_else(|| Ok("the file is unchanged".to_owned()), |problem| Err(kept(&problem)))
    }

    fn refuse(&mut self, mistakes: Mistakes) -> Result<String> {
        self.seen = None;
        self.live.apply(Err(mistakes)).map(str::to_owned).map_err(|problem| kept(&problem))
    }
}

fn kept(problem: &str) -> Error {
    Error::invalid("the old settings stay in force", problem)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use agentbot_wire::TaskStatus;
    use notify::event::{AccessKind, AccessMode, CreateKind};
    use notify::{Event, EventKind};
    use notify_debouncer_full::DebouncedEvent;
    use tempfile::TempDir;
    use tokio::sync::watch;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::load;
    use super::*;

    /// Far more than it takes: reached only when the test fails.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Longer than any test: what is seen was noticed.
    const NEVER: Duration = Duration::from_secs(3_600);

    struct World {
        directory: TempDir,
        file: PathBuf,
        live: Live,
        changes: watch::Receiver<u64>,
        driver: Driver,
        watch: Watch,
        stop: CancellationToken,
    }

    impl World {
        async fn with(text: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("agentbot.toml");
            fs::write(&file, text).unwrap();
            let live = Live::new(load(Some(&file)).unwrap());
            let stop = CancellationToken::new();
            let driver = Driver::new(TaskTracker::new(), stop.clone());
            let changes = live.subscribe();
            let watch = follow_with(&driver, Some(&file), &live, NEVER);
            let world = Self { directory, file, live, changes, driver, watch, stop };
            world.reload(|task| task.runs == 1).await;
            world
        }

        /// Waits until the reload task says so.
        async fn reload(&self, until: impl Fn(&TaskStatus) -> bool) -> TaskStatus {
            let look = async {
                loop {
                    let task = self.driver.status().remove(0);
                    if !task.running && until(&task) {
                        return task;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, look).await.expect("the file was not read")
        }

        async fn period_becomes(&mut self, secs: u64) {
            let look = async {
                while self.live.load().beat.period != Duration::from_secs(secs) {
                    self.changes.changed().await.unwrap();
                }
            };
            timeout(PATIENCE, look).await.expect("the new setting did not come into force");
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    fn beat(period: &str) -> String {
        format!("[beat]\nperiod = {period:?}\n")
    }

    #[tokio::test]
    async fn a_saved_file_comes_into_force_written_or_renamed_over() {
        let mut world = World::with(&beat("1s")).await;
        fs::write(&world.file, beat("2s")).unwrap();
        world.period_becomes(2).await;

        for secs in [3, 4] {
            let other = world.directory.path().join(".agentbot.toml.swp");
            fs::write(&other, beat(&format!("{secs}s"))).unwrap();
            fs::rename(&other, &world.file).unwrap();
            world.period_becomes(secs).await;
        }
    }

    #[tokio::test]
    async fn a_file_behind_a_changing_link_is_followed() {
        let mut world = World::with(&beat("1s")).await;
        for secs in [2, 3] {
            let version = world.directory.path().join(format!("..data_{secs}"));
            fs::create_dir(&version).unwrap();
            fs::write(version.join("agentbot.toml"), beat(&format!("{secs}s"))).unwrap();
            let link = world.directory.path().join("..data_new");
            std::os::unix::fs::symlink(version.join("agentbot.toml"), &link).unwrap();
            fs::rename(&link, &world.file).unwrap();
            world.period_becomes(secs).await;
        }
    }

    #[tokio::test]
    async fn a_broken_file_keeps_the_old_settings_and_says_why() {
        let mut world = World::with(&beat("1s")).await;
        fs::write(&world.file, beat("soon")).unwrap();
        let task = world.reload(|task| task.failures > 0).await;
        assert!(task.result.unwrap().contains("agentbot.toml:2: beat.period"), "said by status");
        assert!(world.live.last_error().unwrap().contains("expected a duration"));
        assert_eq!(world.live.load().beat.period, Duration::from_secs(1));

        world.watch.activator().activate();
        let task = world.reload(|task| task.failures > 1).await;
        assert!(task.result.unwrap().contains("beat.period"), "still said when nothing changed since");

        fs::write(&world.file, beat("5s")).unwrap();
        world.period_becomes(5).await;
        assert_eq!(world.live.last_error(), None);
    }

    #[tokio::test]
    async fn a_file_that_vanishes_keeps_its_settings_until_it_is_back() {
        let mut world = World::with(&beat("1s")).await;
        fs::remove_file(&world.file).unwrap();
        world.reload(|task| task.failures > 0).await;
        assert!(world.live.last_error().unwrap().contains("is gone"));
        assert_eq!(world.live.load().beat.period, Duration::from_secs(1));
        fs::write(&world.file, beat("1s")).unwrap();
        world.reload(|task| task.result.as_deref() == Some("no setting changed")).await;
        assert_eq!(world.live.last_error(), None);
        fs::write(&world.file, beat("2s")).unwrap();
        world.period_becomes(2).await;
    }

    #[test]
    fn reading_the_file_is_no_change_and_trouble_with_the_watch_is() {
        let name = OsStr::new("agentbot.toml");
        let of = |kind, path: &str| DebouncedEvent::new(Event::new(kind).add_path(path.into()), Instant::now());
        let event = |kind| of(kind, "/etc/agentbot/agentbot.toml");
        let read = || event(EventKind::Access(AccessKind::Open(AccessMode::Any)));
        assert!(!is_change(&Ok(vec![read(), read()]), name));
        assert!(is_change(&Ok(vec![read(), event(EventKind::Create(CreateKind::File))]), name));
        assert!(is_change(&Err(vec![notify::Error::generic("lost")]), name));
        let made = |path| of(EventKind::Create(CreateKind::File), path);
        assert!(!is_change(&Ok(vec![made("/etc/agentbot/other.log")]), name));
        assert!(is_change(&Ok(vec![made("/etc/agentbot/..data")]), name));
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_comes_later_is_found_by_the_period() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("later/agentbot.toml");
        let live = Live::new(parse(&file, "").unwrap());
        let driver = Driver::new(TaskTracker::new(), CancellationToken::new());
        let _watch = follow(&driver, Some(&file), &live);
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, beat("2s")).unwrap();
        let mut changes = live.subscribe();
        timeout(2 * PERIOD, changes.changed()).await.expect("the period finds it").unwrap();
        assert_eq!(live.load().beat.period, Duration::from_secs(2));
    }
}
