//! Who may come through the admin door: root and the members of one group, as the system knows them at that moment.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentbot_wire::Code;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Actor;
use crate::error::{Error, Result};

/// How long an answer of the system is believed: a new member waits no longer, a former one is in no longer.
const BELIEVED: Duration = Duration::from_secs(5);
/// Answers kept at once.
const REMEMBERED: usize = 256;
/// How long the system may take: its user database can be a directory server.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions to the system at once; one that hangs cannot be taken back.
const QUESTIONS: usize = 4;

/// What the system says of one user and the admin group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Member,
    Outsider,
    /// The group does not exist.
    NoGroup,
}

/// Decides who is an operator.
#[derive(Debug)]
pub struct Admission {
    group: String,
    known: Mutex<HashMap<u32, (Instant, Standing)>>,
    questions: Arc<Semaphore>,
}

impl Admission {
    /// An admission for root and the members of `group`.
    #[must_use]
    pub fn new(group: impl Into<String>) -> Self {
        Self { group: group.into(), known: Mutex::new(HashMap::new()), questions: Arc::new(Semaphore::new(QUESTIONS)) }
    }

    /// The actor behind a connection whose user id the kernel gave.
    ///
    /// # Errors
    /// `forbidden` for whoever is neither root nor a member; `busy` or `timed_out` when the system does not say in time.
    pub async fn admit(&self, uid: u32) -> Result<Actor> {
        if uid == 0 {
            return Ok(Actor::Operator { uid });
        }
        if let Some(standing) = self.remembered(uid) {
            return decide(uid, &self.group, standing);
        }
        let turn = self.turn().await?;
        // Whoever waited may find that the connection before asked the same.
        if let Some(standing) = self.remembered(uid) {
            return decide(uid, &self.group, standing);
        }
        let group = self.group.clone();
        let standing = ask(turn, move || standing(uid, &group)).await?;
        self.remember(uid, standing);
        decide(uid, &self.group, standing)
    }

    /// What the owner should be told at start: that the group is missing and root is alone.
    ///
    /// # Errors
    /// The system does not say in time.
    pub async fn warning(&self) -> Result<Option<String>> {
        Ok(self.group_id().await?.is_none().then(|| {
            let group = &self.group;
            format!(
                "there is no group `{group}`: root alone may use agentbotctl (`groupadd --system {group}` makes it)"
            )
        }))
    }

    /// The id of the group; `None` when there is no such group.
    ///
    /// # Errors
    /// The system does not say in time.
    pub async fn group_id(&self) -> Result<Option<u32>> {
        let name = self.group.clone();
        let group = ask(self.turn().await?, move || Group::from_name(&name)).await?;
        Ok(group.map(|group| group.gid.as_raw()))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        tokio::time::timeout(PATIENCE, Arc::clone(&self.questions).acquire_owned())
            .await
            .map_err(|_| slow(Code::Busy, "too many users wait for the user database of this host"))?
            .map_err(Error::internal)
    }

    fn remembered(&self, uid: u32) -> Option<Standing> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&uid).filter(|(until, _)| Instant::now() < *until).map(|&(_, standing)| standing)
    }

    fn remember(&self, uid: u32, standing: Standing) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < REMEMBERED {
            known.insert(uid, (now + BELIEVED, standing));
        }
    }
}

/// Asks beside the runtime. A question that hangs keeps its turn until it is answered.
async fn ask<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    question: impl FnOnce() -> nix::Result<T> + Send + 'static,
) -> Result<T> {
    let answer = tokio::task::spawn_blocking(move || {
        let answer = question();
        drop(turn);
        answer
    });
    tokio::time::timeout(PATIENCE, answer)
        .await
        .map_err(|_| slow(Code::TimedOut, "the user database of this host does not answer"))?
        .map_err(Error::internal)?
        .map_err(|errno| slow(Code::Internal, "the user database of this host failed").caused_by(errno))
}

fn slow(code: Code, message: &str) -> Error {
    Error::new(code, message).hint("try again shortly, or as root; `getent passwd` shows whether it answers")
}

fn decide(uid: u32, group: &str, standing: Standing) -> Result<Actor> {
    let refused = || Error::new(Code::Forbidden, format!("user id {uid} may not use this daemon"));
    match standing {
        Standing::Member => Ok(Actor::Operator { uid }),
        Standing::Outsider => {
            Err(refused().hint(format!("run it with sudo, or join the group: `sudo usermod -aG {group} <you>`")))
        }
        Standing::NoGroup => Err(refused().hint(format!(
            "run it with sudo, or make the group and join it: `sudo groupadd --system {group}; sudo usermod -aG {group} <you>`"
        ))),
    }
}

/// Asks the system. This can block for as long as its user database does.
fn standing(uid: u32, group: &str) -> nix::Result<Standing> {
    let Some(group) = Group::from_name(group)? else { return Ok(Standing::NoGroup) };
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else { return Ok(Standing::Outsider) };
    let name = CString::new(user.name).map_err(|_| nix::Error::EINVAL)?;
    let groups = getgrouplist(&name, user.gid)?;
    Ok(judge(group.gid, user.gid, &groups))
}

fn judge(group: Gid, primary: Gid, groups: &[Gid]) -> Standing {
    if primary == group || groups.contains(&group) { Standing::Member } else { Standing::Outsider }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_group_and_every_other_one_count() {
        let gid = Gid::from_raw;
        for (primary, groups, standing) in [
            (7, &[][..], Standing::Member),
            (1000, &[1000, 7][..], Standing::Member),
            (1000, &[1000, 27][..], Standing::Outsider),
            (1000, &[][..], Standing::Outsider),
        ] {
            let groups: Vec<_> = groups.iter().map(|&group| gid(group)).collect();
            assert_eq!(judge(gid(7), gid(primary), &groups), standing, "{primary} {groups:?}");
        }
    }

    #[test]
    fn who_is_refused_learns_how_to_get_in() {
        assert_eq!(decide(1000, "agentbot", Standing::Member).unwrap(), Actor::Operator { uid: 1000 });
        for (standing, hint) in
            [(Standing::Outsider, "usermod -aG agentbot <you>"), (Standing::NoGroup, "groupadd --system agentbot")]
        {
            let error = decide(1000, "agentbot", standing).unwrap_err();
            assert_eq!(error.code(), Code::Forbidden);
            assert!(error.to_api().hint.unwrap().contains(hint));
        }
    }

    #[tokio::test]
    async fn root_comes_in_without_a_group() {
        let admission = Admission::new("no-such-group-here");
        assert_eq!(admission.admit(0).await.unwrap(), Actor::Operator { uid: 0 });
        assert_eq!(admission.admit(12345).await.unwrap_err().code(), Code::Forbidden);
        assert!(admission.warning().await.unwrap().unwrap().contains("no-such-group-here"));
    }

    #[tokio::test]
    async fn the_system_knows_roots_own_group() {
        // Every Linux has the group of gid 0, and its user's primary group counts.
        let name = Group::from_gid(Gid::from_raw(0)).unwrap().unwrap().name;
        assert_eq!(standing(0, &name).unwrap(), Standing::Member);
        assert_eq!(standing(4_000_000_000, &name).unwrap(), Standing::Outsider);
        assert_eq!(Admission::new(&*name).group_id().await.unwrap(), Some(0));
        assert_eq!(Admission::new(name).warning().await.unwrap(), None);
        assert_eq!(Admission::new("no-such-group-here").group_id().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_for_five_seconds_and_no_longer() {
        let admission = Admission::new("no-such-group-here");
        admission.remember(1000, Standing::Member);
        tokio::time::advance(BELIEVED - Duration::from_millis(1)).await;
        admission.admit(1000).await.unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(admission.remembered(1000), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_makes_room_for_the_new() {
        let admission = Admission::new("g");
        let full = u32::try_from(REMEMBERED).unwrap();
        (0..full + 10).for_each(|uid| admission.remember(uid, Standing::Outsider));
        assert_eq!(admission.remembered(full - 1), Some(Standing::Outsider));
        assert_eq!(admission.remembered(full), None);
        tokio::time::advance(BELIEVED).await;
        admission.remember(full, Standing::Member);
        assert_eq!(admission.known.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_database_that_hangs_keeps_a_fixed_number_of_threads() {
        let admission = Admission::new("no-such-group-here");
        let mut hanging: Vec<_> = Vec::new();
        for _ in 0..QUESTIONS {
            hanging.push(admission.turn().await.unwrap());
        }
        assert_eq!(admission.admit(1000).await.unwrap_err().code(), Code::Busy);
        assert_eq!(admission.group_id().await.unwrap_err().code(), Code::Busy, "nor is a start held up without end");
        // Those who are known come in all the same.
        admission.remember(1001, Standing::Member);
        admission.admit(1001).await.unwrap();
        hanging.pop();
        assert_eq!(admission.admit(1000).await.unwrap_err().code(), Code::Forbidden);
    }

    #[tokio::test]
    async fn a_crowd_of_one_user_comes_in_together() {
        let admission = Admission::new("no-such-group-here");
        let crowd = futures_util::future::join_all((0..64).map(|_| admission.admit(1000))).await;
        assert!(crowd.into_iter().all(|answer| answer.unwrap_err().code() == Code::Forbidden));
    }
}
