//! When each slot is looked at next. Pure but for the clock: the reconciler tells it what happened.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use agentbot_wire::SlotId;
use tokio::time::Instant;

/// Looks at a slot that its own news may cause in one go: more than any way to `running` takes.
const BURST: f64 = 30.0;
/// Looks per second that its own news may cause for long. An agent, or a quarrel about its container, costs no more.
const RATE: f64 = 5.0;

#[derive(Debug)]
struct Budget {
    left: f64,
    at: Instant,
}

/// The slots that are due, and what keeps them from being looked at too often.
#[derive(Debug, Default)]
pub struct Agenda {
    due: HashMap<SlotId, Instant>,
    busy: HashSet<SlotId>,
    /// A failed step is not tried before its pause is over, whatever news the failure itself causes.
    not_before: HashMap<SlotId, Instant>,
    /// Slots of which somebody asked something that no look has served yet: they come first and know no pause.
    asked: HashSet<SlotId>,
    budgets: HashMap<SlotId, Budget>,
}

impl Agenda {
    /// Somebody asked something of it: it is looked at now.
    pub fn ask(&mut self, slot: SlotId) {
        self.not_before.remove(&slot);
        self.budgets.remove(&slot);
        self.asked.insert(slot.clone());
        self.due.insert(slot, Instant::now());
    }

    /// It showed news: it is looked at as soon as its pause and its budget allow.
    pub fn news(&mut self, slot: SlotId) {
        let now = Instant::now();
        let budget = self.budgets.entry(slot.clone()).or_insert(Budget { left: BURST, at: now });
        let earned = now.duration_since(budget.at).as_secs_f64() * RATE;
        (budget.left, budget.at) = ((budget.left + earned).min(BURST), now);
        let at = now + Duration::from_secs_f64((1.0 - budget.left).max(0.0) / RATE);
        let at = self.not_before.get(&slot).map_or(at, |not_before| at.max(*not_before));
        // A look that is due by then serves this news too.
        if self.due.get(&slot).is_none_or(|due| *due > at) {
            budget.left = (budget.left - 1.0).max(-1.0);
            self.at(slot, at);
        }
    }

    /// It is looked at after so long, or earlier if it was due earlier.
    pub fn after(&mut self, slot: SlotId, pause: Duration) {
        self.at(slot, Instant::now() + pause);
    }

    /// A step of it failed: it is not looked at for so long, unless somebody asks, or asked while it was at work.
    pub fn retry(&mut self, slot: SlotId, pause: Duration) {
        if self.asked.contains(&slot) {
            return;
        }
        let at = Instant::now() + pause;
        self.not_before.insert(slot.clone(), at);
        self.due.insert(slot, at);
    }

    fn at(&mut self, slot: SlotId, at: Instant) {
        let at = self.not_before.get(&slot).map_or(at, |not_before| at.max(*not_before));
        let due = self.due.entry(slot).or_insert(at);
        *due = (*due).min(at);
    }

    /// Every pause ends: what stood in the way is gone.
    pub fn forgive(&mut self) {
        self.not_before.clear();
    }

    /// Takes a slot that is due and not being worked on; it is busy until [`Agenda::done`].
    pub fn take(&mut self) -> Option<SlotId> {
        let now = Instant::now();
        let ready = self.due.iter().filter(|(slot, at)| **at <= now && !self.busy.contains(*slot));
        let first = ready.min_by_key(|(slot, at)| (!self.asked.contains(*slot), **at));
        let slot = first.map(|(slot, _)| slot.clone())?;
        self.due.remove(&slot);
        self.asked.remove(&slot);
        self.busy.insert(slot.clone());
        Some(slot)
    }

    /// Its worker has ended.
    pub fn done(&mut self, slot: &SlotId) {
        self.busy.remove(slot);
    }

    /// Nothing is left of it.
    pub fn forget(&mut self, slot: &SlotId) {
        self.due.remove(slot);
        self.asked.remove(slot);
        self.not_before.remove(slot);
        self.budgets.remove(slot);
    }

    /// Whether somebody waits for a slot that can be taken.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.iter().any(|slot| !self.busy.contains(slot))
    }

    /// When the next slot is due that nobody works on.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.due.iter().filter(|(slot, _)| !self.busy.contains(*slot)).map(|(_, at)| *at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_taken_once_and_again_when_it_is_done() {
        let (mut agenda, slot) = (Agenda::default(), SlotId::mint());
        agenda.ask(slot.clone());
        assert_eq!(agenda.take(), Some(slot.clone()));
        agenda.news(slot.clone());
        assert_eq!((agenda.take(), agenda.next()), (None, None), "it is being worked on");
        agenda.done(&slot);
        assert_eq!(agenda.take(), Some(slot));
    }

    #[tokio::test(start_paused = true)]
    async fn the_news_of_a_failure_do_not_shorten_its_pause_but_a_request_does() {
        let (mut agenda, slot) = (Agenda::default(), SlotId::mint());
        agenda.retry(slot.clone(), 10 * SECOND);
        agenda.news(slot.clone());
        agenda.after(slot.clone(), SECOND);
        assert_eq!(agenda.next(), Some(Instant::now() + 10 * SECOND));
        agenda.ask(slot.clone());
        assert_eq!(agenda.take(), Some(slot));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_while_a_pass_fails_is_served_when_it_ends() {
        let (mut agenda, slot) = (Agenda::default(), SlotId::mint());
        agenda.news(slot.clone());
        agenda.take();
        agenda.ask(slot.clone());
        agenda.done(&slot);
        agenda.retry(slot.clone(), 300 * SECOND);
        assert_eq!(agenda.take(), Some(slot.clone()));
        agenda.done(&slot);
        agenda.retry(slot.clone(), 300 * SECOND);
        assert_eq!(agenda.take(), None, "served once, it pauses again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_comes_before_what_was_due_longer() {
        let (mut agenda, first, second) = (Agenda::default(), SlotId::mint(), SlotId::mint());
        agenda.news(first.clone());
        tokio::time::advance(SECOND).await;
        agenda.ask(second.clone());
        assert!(agenda.is_asked());
        assert_eq!((agenda.take(), agenda.is_asked(), agenda.take()), (Some(second), false, Some(first)));
    }

    #[tokio::test(start_paused = true)]
    async fn news_during_a_pause_cost_nothing_afterwards() {
        let (mut agenda, slot) = (Agenda::default(), SlotId::mint());
        agenda.retry(slot.clone(), 10 * SECOND);
        (0..1000).for_each(|_| agenda.news(slot.clone()));
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(agenda.take(), Some(slot.clone()));
        agenda.done(&slot);
        agenda.forgive();
        agenda.news(slot.clone());
        assert_eq!(agenda.take(), Some(slot));
    }

    #[tokio::test(start_paused = true)]
    async fn endless_news_cost_no_more_than_the_rate() {
        let (mut agenda, slot) = (Agenda::default(), SlotId::mint());
        let end = Instant::now() + 20 * SECOND;
        let mut looks = 0;
        while Instant::now() < end {
            agenda.news(slot.clone());
            while let Some(slot) = agenda.take() {
                looks += 1;
                agenda.done(&slot);
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!((100..=140).contains(&looks), "{looks}");
    }
}
