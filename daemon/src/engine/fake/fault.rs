//! Failures that a test orders.

use std::fmt;

use agentbot_wire::ApiError;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `facts`.
    Facts,
    /// `image_id`.
    ImageId,
    /// `load_image`.
    LoadImage,
    /// `remove_image`.
    RemoveImage,
    /// `list`.
    List,
    /// `inspect`.
    Inspect,
    /// `create`.
    Create,
    /// `start`.
    Start,
    /// `stop`.
    Stop,
    /// `kill`.
    Kill,
    /// `unpause`.
    Unpause,
    /// `remove`.
    Remove,
    /// `rename`.
    Rename,
    /// `last_lines`.
    LastLines,
}

impl Call {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Facts,
        Self::ImageId,
        Self::LoadImage,
        Self::List,
        Self::Inspect,
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Kill,
        Self::Unpause,
        Self::Remove,
        Self::Rename,
        Self::LastLines,
    ];
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this error, before it does anything.
    Before(ApiError),
    /// It acts, but its answer is lost.
    LoseReply,
    /// It never answers, and does nothing.
    Hang,
    /// It acts and never answers.
    HangAfter,
    /// It acts and answers nonsense.
    Garbage,
}

/// When a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which kind; `None` is any.
    pub call: Option<Call>,
    /// About which container (id or name), image or daemon; `None` is any.
    pub about: Option<String>,
    /// How.
    pub fault: Fault,
    /// How many calls that fit go well before.
    pub skip: u32,
    /// How many then fail; `None` is every one.
    pub times: Option<u32>,
}

impl Rule {
    /// The next call of this kind fails, whatever it is about.
    #[must_use]
    pub fn once(call: Call, fault: Fault) -> Self {
        Self { call: Some(call), about: None, fault, skip: 0, times: Some(1) }
    }

    /// Every call of this kind fails until the engine is healed.
    #[must_use]
    pub fn always(call: Call, fault: Fault) -> Self {
        Self { times: None, ..Self::once(call, fault) }
    }

    /// Every call about one container fails until the engine is healed.
    #[must_use]
    pub fn about(id_or_name: &str, fault: Fault) -> Self {
        Self { call: None, about: Some(id_or_name.to_owned()), fault, skip: 0, times: None }
    }
}

/// The fault of the oldest rule that fits, which is then spent by one.
pub(super) fn take(rules: &mut Vec<Rule>, call: Call, subjects: &[&str]) -> Option<Fault> {
    let fits = |rule: &Rule| {
        rule.call.is_none_or(|it| it == call) && rule.about.as_deref().is_none_or(|about| subjects.contains(&about))
    };
    let at = rules.iter_mut().position(|rule| {
        let now = fits(rule) && rule.skip == 0;
        if fits(rule) {
            rule.skip = rule.skip.saturating_sub(1);
        }
        now
    })?;
    let rule = &mut rules[at];
    let fault = rule.fault.clone();
    if let Some(times) = &mut rule.times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            rules.remove(at);
        }
    }
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_waits_for_its_turn_and_is_spent() {
        let mut rules = vec![Rule { skip: 1, times: Some(2), ..Rule::once(Call::Start, Fault::Hang) }];
        let mut ask = |call| take(&mut rules, call, &["x"]);
        assert_eq!(ask(Call::Stop), None);
        let seen: Vec<_> = (0..4).map(|_| ask(Call::Start).is_some()).collect();
        assert_eq!(seen, [false, true, true, false]);
    }

    #[test]
    fn a_rule_about_one_container_spares_the_others() {
        let mut rules = vec![Rule::about("a", Fault::Garbage)];
        assert_eq!(take(&mut rules, Call::Kill, &["b", "name"]), None);
        assert_eq!(take(&mut rules, Call::Kill, &["id", "a"]), Some(Fault::Garbage));
        assert_eq!(rules.len(), 1);
    }
}
