use super::*;
use crate::instance::phase::{is_reached, phase};
use crate::instance::test_support::{a_container, an_instance};
use agentbot_wire::Phase;

/// A world that a test changes before it asks for the plan.
struct World {
    instance: Instance,
    container: Container,
    open: Option<OperationKind>,
    diagnosed: bool,
    workspace: bool,
    door: bool,
    image: bool,
    vitals: Vitals,
    recent_crashes: u32,
    excused: bool,
}

const HELLO: Duration = Duration::from_secs(30);

impl World {
    /// A running, healthy agent.
    fn healthy() -> Self {
        let mut instance = an_instance();
        instance.phase = Phase::Running;
        instance.slot.workspace_made = true;
        let container = a_container(&mut instance, RunState::Running);
        let vitals = Vitals {
            running_for: Duration::from_secs(60),
            greeted: true,
            alive: true,
            healthy_for: Duration::from_secs(60),
            ..Vitals::default()
        };
        Self {
            instance,
            container,
            open: None,
            diagnosed: false,
            workspace: true,
            door: true,
            image: false,
            vitals,
            recent_crashes: 0,
            excused: false,
        }
    }

    /// Accepted a moment ago.
    fn new() -> Self {
        let mut world = Self::healthy();
        world.instance.phase = Phase::Provisioning;
        world.instance.slot.workspace_made = false;
        world.instance.slot.container_id = None;
        world.container = Container::Absent;
        (world.workspace, world.door, world.vitals) = (false, false, Vitals::default());
        world.open = Some(OperationKind::Provision);
        world
    }

    fn state(mut self, state: RunState) -> Self {
        self.container = a_container(&mut self.instance, state);
        self.vitals = Vitals::default();
        self
    }

    fn wants(mut self, desired: Desired) -> Self {
        self.instance.desired = desired;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            instance: &self.instance,
            open: self.open,
            diagnosed: self.diagnosed,
            container: &self.container,
            workspace: self.workspace,
            door: self.door,
            image: self.image,
            vitals: self.vitals,
            recent_crashes: self.recent_crashes,
            exit_excused: self.excused,
            now: Timestamp::UNIX_EPOCH,
            deadlines: Deadlines {
                hello: HELLO,
                unhealthy: Duration::from_secs(15),
                restart: Duration::from_secs(30),
                forgive: Duration::from_secs(600),
                loop_after: 5,
                longest_pause: Duration::from_secs(300),
            },
        }
    }

    fn plan(&self) -> Step {
        plan(&self.situation())
    }

    fn phase(&self) -> Phase {
        phase(&self.situation()).0
    }
}

#[test]
fn a_new_agent_gets_image_workspace_socket_container_in_this_order() {
    let mut world = World::new();
    assert_eq!((world.plan(), world.phase()), (Step::Image, Phase::Provisioning));
    world.image = true;
    assert_eq!(world.plan(), Step::Workspace);
    (world.workspace, world.instance.slot.workspace_made) = (true, true);
    assert_eq!(world.plan(), Step::Door);
    world.door = true;
    assert_eq!(world.plan(), Step::Create);
    let mut world = world.state(RunState::Created);
    assert_eq!(world.plan(), Step::Start);
    world = world.state(RunState::Running);
    assert_eq!((world.plan(), world.phase()), (Step::Rest(Some(HELLO)), Phase::Provisioning));
    (world.vitals.alive, world.vitals.greeted) = (true, true);
    assert_eq!(world.phase(), Phase::Running);
}

#[test]
fn a_container_made_before_a_crash_is_adopted_and_not_made_again() {
    let world = World::healthy().state(RunState::Created).with(|world| world.instance.slot.container_id = None);
    assert_eq!(world.plan(), Step::Adopt);
}

#[test]
fn hello_has_a_deadline() {
    let at =
        |running_for| World::healthy().with(|world| world.vitals = Vitals { running_for, ..Vitals::default() }).plan();
    assert_eq!(at(HELLO - Duration::from_secs(1)), Step::Rest(Some(Duration::from_secs(1))));
    assert_eq!(at(HELLO), Step::Kill(Verdict::NoHello));
}

#[test]
fn silence_is_told_first_and_ends_in_a_restart_only_with_an_unanswered_ping() {
    let silent = |seconds, ping| {
        World::healthy().with(|world| {
            world.vitals.silent_for = Duration::from_secs(seconds);
            world.vitals.ping_unanswered = ping;
        })
    };
    assert_eq!(silent(14, false).phase(), Phase::Running);
    assert_eq!(silent(15, true).phase(), Phase::Unhealthy);
    assert_eq!(silent(29, true).plan(), Step::Rest(Some(Duration::from_secs(1))));
    assert!(matches!(silent(31, false).plan(), Step::Rest(Some(_))));
    assert_eq!(silent(30, true).plan(), Step::Kill(Verdict::Silent));
}

#[test]
fn a_lost_link_is_not_a_death_until_six_beats_are_missed() {
    let lost = |seconds| {
        World::healthy().with(|world| {
            world.vitals.alive = false;
            world.vitals.ping_unanswered = true;
            world.vitals.silent_for = Duration::from_secs(seconds);
        })
    };
    assert_eq!((lost(0).plan(), lost(0).phase()), (Step::Rest(Some(Duration::from_secs(15))), Phase::Running));
    assert_eq!(lost(15).phase(), Phase::Unhealthy);
    assert!(matches!(lost(29).plan(), Step::Rest(Some(_))));
    assert_eq!(lost(30).plan(), Step::Kill(Verdict::Silent));
}

#[test]
fn a_clock_that_was_set_back_does_not_make_a_pause_longer() {
    let world = World::healthy().state(RunState::Exited).with(|world| {
        let Container::Ours { observed, .. } = &world.container else { panic!("it is ours") };
        world.instance.exit_seen = observed.exit.as_ref().map(|exit| fingerprint(observed, exit));
        world.instance.next_start_at = Some(Timestamp::from_second(86_400).unwrap());
    });
    assert_eq!(world.plan(), Step::Rest(Some(Duration::from_secs(300))));
}

#[test]
fn a_container_that_the_engine_gave_up_is_replaced() {
    assert_eq!(World::healthy().state(RunState::Dead).plan(), Step::Discard(Why::Changed));
    assert_eq!(World::healthy().state(RunState::Dead).wants(Desired::Stopped).plan(), Step::Discard(Why::Changed));
}

#[test]
fn an_unasked_exit_is_accounted_for_once_and_then_waits_its_pause_out() {
    let world = World::healthy().state(RunState::Exited);
    assert_eq!(world.plan(), Step::NoteExit { asked: false });
    let noted = world.with(|world| {
        let Container::Ours { observed, .. } = &world.container else { panic!("it is ours") };
        let exit = observed.exit.as_ref().unwrap();
        world.instance.exit_seen = Some(fingerprint(observed, exit));
        world.instance.next_start_at = Some(Timestamp::from_second(4).unwrap());
    });
    assert_eq!(noted.plan(), Step::Rest(Some(Duration::from_secs(4))));
    assert_eq!(noted.with(|world| world.instance.next_start_at = None).plan(), Step::Start);
}

#[test]
fn an_exit_that_the_engine_or_an_operation_caused_is_no_crash() {
    assert_eq!(
        World::healthy().state(RunState::Exited).with(|world| world.excused = true).plan(),
        Step::NoteExit { asked: true }
    );
    let restarted = World::healthy().state(RunState::Exited).with(|world| world.instance.restart.wanted = 1);
    assert_eq!(restarted.plan(), Step::NoteExit { asked: true });
    assert_eq!(World::healthy().state(RunState::Exited).wants(Desired::Stopped).plan(), Step::NoteExit { asked: true });
}

#[test]
fn five_crashes_in_a_short_time_are_a_loop_until_health_or_a_request_ends_it() {
    let crashed = |streak, recent, phase| {
        World::healthy().state(RunState::Exited).with(|world| {
            world.instance.crash_streak = streak;
            world.recent_crashes = recent;
            world.instance.phase = phase;
        })
    };
    assert_eq!(crashed(4, 4, Phase::Starting).phase(), Phase::Starting);
    assert_eq!(crashed(5, 5, Phase::Starting).phase(), Phase::CrashLoop);
    assert_eq!(crashed(9, 4, Phase::Starting).phase(), Phase::Starting, "too long ago");
    assert_eq!(crashed(9, 0, Phase::CrashLoop).phase(), Phase::CrashLoop, "it does not end by itself");
    let recovering = World::healthy().with(|world| {
        world.instance.crash_streak = 5;
        world.instance.phase = Phase::CrashLoop;
        world.vitals.healthy_for = Duration::from_secs(599);
    });
    assert_eq!(recovering.phase(), Phase::CrashLoop);
    assert_eq!(recovering.with(|world| world.vitals.healthy_for = Duration::from_secs(600)).plan(), Step::Forgive);
}

#[test]
fn a_restart_stops_first_and_is_served_when_the_agent_has_been_down() {
    let due = |world: World| world.with(|world| world.instance.restart.wanted = 1);
    assert_eq!(due(World::healthy()).plan(), Step::Stop);
    let down = due(World::healthy().state(RunState::Created));
    assert_eq!(down.plan(), Step::ServeRestart);
}

#[test]
fn a_repair_looks_first_then_replaces_the_container() {
    let mut world = World::healthy();
    (world.instance.rebuild.wanted, world.open) = (1, Some(OperationKind::Repair));
    assert_eq!((world.plan(), world.phase()), (Step::Diagnose, Phase::Repairing));
    world.diagnosed = true;
    assert_eq!(world.plan(), Step::Stop);
    let mut world = world.state(RunState::Exited);
    assert_eq!(world.plan(), Step::Discard(Why::Rebuild));
    (world.container, world.instance.slot.container_id) = (Container::Absent, None);
    assert_eq!(world.plan(), Step::ServeRebuild);
}

#[test]
fn a_container_that_vanished_is_forgotten_and_made_anew() {
    let mut world = World::healthy();
    world.container = Container::Absent;
    assert_eq!(world.plan(), Step::Forget);
    world.instance.slot.container_id = None;
    assert_eq!(world.plan(), Step::Image);
}

#[test]
fn a_changed_container_never_starts() {
    let changed = |state| {
        World::healthy().state(state).with(|world| {
            let Container::Ours { drift, .. } = &mut world.container else { panic!("it is ours") };
            drift.push(Drift { field: "privileged".into(), wanted: "false".to_owned(), found: "true".to_owned() });
        })
    };
    assert_eq!(changed(RunState::Created).plan(), Step::Discard(Why::Unsafe));
    assert_eq!(changed(RunState::Exited).plan(), Step::Discard(Why::Changed));
    assert_eq!(changed(RunState::Running).plan(), Step::Stop);
    let risky = World::healthy().state(RunState::Created).with(|world| {
        let Container::Ours { observed, .. } = &mut world.container else { panic!("it is ours") };
        observed.risky.push("Binds".to_owned());
    });
    assert_eq!(risky.plan(), Step::Discard(Why::Unsafe));
}

#[test]
fn somebody_elses_container_is_evaded_and_never_touched() {
    for desired in [Desired::Running, Desired::Stopped, Desired::Deleted, Desired::Purged] {
        let world = World::new().wants(desired).with(|world| {
            world.container = Container::Foreign { id: "f".to_owned() };
            world.door = false;
        });
        let step = world.plan();
        assert!(
            !matches!(step, Step::Discard(_) | Step::Stop | Step::Kill(_) | Step::Rename | Step::Start | Step::Adopt),
            "{step:?}"
        );
    }
}

#[test]
fn a_lost_workspace_stops_the_agent_and_starts_nothing() {
    let lost = |world: World| world.with(|world| world.workspace = false);
    assert_eq!((lost(World::healthy()).plan(), lost(World::healthy()).phase()), (Step::Stop, Phase::DataLost));
    assert_eq!(lost(World::healthy().state(RunState::Exited)).plan(), Step::Rest(None));
    let gone = lost(World::healthy()).with(|world| world.container = Container::Absent);
    assert_eq!(gone.plan(), Step::Rest(None));
}

#[test]
fn a_stop_stops_accounts_closes_and_rests() {
    let world = World::healthy().wants(Desired::Stopped);
    assert_eq!((world.plan(), world.phase()), (Step::Stop, Phase::Stopping));
    let world = World::healthy().state(RunState::Created).wants(Desired::Stopped);
    assert_eq!((world.plan(), world.phase()), (Step::CloseDoor, Phase::Stopped));
    assert_eq!(world.with(|world| world.door = false).plan(), Step::Rest(None));
}

#[test]
fn a_delete_keeps_files_and_a_purge_does_not() {
    let gone = |desired| {
        World::healthy().wants(desired).with(|world| {
            world.container = Container::Absent;
            world.instance.slot.container_id = None;
            world.door = false;
        })
    };
    assert_eq!((gone(Desired::Deleted).plan(), gone(Desired::Deleted).phase()), (Step::Rest(None), Phase::Deleted));
    assert_eq!(gone(Desired::Purged).plan(), Step::Erase);
    let exited = World::healthy().state(RunState::Exited).wants(Desired::Deleted);
    assert_eq!(exited.plan(), Step::Discard(Why::Deleted));
}

#[test]
fn an_operation_ends_where_it_aims_and_nowhere_else() {
    use OperationKind::{Delete, Provision, Purge, Stop, Undelete};
    assert!(is_reached(Provision, Desired::Running, Phase::Running));
    assert!(!is_reached(Provision, Desired::Running, Phase::Starting));
    assert!(is_reached(Stop, Desired::Stopped, Phase::Stopped));
    assert!(is_reached(Undelete, Desired::Stopped, Phase::Stopped));
    assert!(is_reached(Delete, Desired::Deleted, Phase::Deleted));
    assert!(Phase::ALL.iter().all(|phase| !is_reached(Purge, Desired::Purged, *phase)), "a purge ends with its row");
}

/// Plays every step's effect in a world without failures: whatever the start, a plan ends in rest and in what is wanted.
#[test]
fn from_every_state_the_plan_comes_to_rest_where_it_should() {
    let states =
        [None, Some(RunState::Created), Some(RunState::Running), Some(RunState::Paused), Some(RunState::Exited)];
    for desired in [Desired::Running, Desired::Stopped, Desired::Deleted] {
        for state in states {
            for (rebuild, restart, door) in [(0, 0, true), (1, 0, true), (0, 1, false), (1, 1, false)] {
                let mut world = match state {
                    Some(state) => {
                        World::healthy().state(state).with(|world| world.vitals.greeted = state == RunState::Running)
                    }
                    None => World::new().with(|world| world.open = None),
                }
                .wants(desired);
                (world.instance.rebuild.wanted, world.instance.restart.wanted, world.door) = (rebuild, restart, door);
                settle(&mut world);
                let wanted = match desired {
                    Desired::Running => Phase::Running,
                    Desired::Stopped => Phase::Stopped,
                    _ => Phase::Deleted,
                };
                assert_eq!(world.phase(), wanted, "from {state:?} {rebuild} {restart} {door}");
            }
        }
    }
}

fn settle(world: &mut World) {
    for _ in 0..40 {
        match world.plan() {
            Step::Rest(_) => return,
            Step::Image => world.image = true,
            Step::Workspace => (world.workspace, world.instance.slot.workspace_made) = (true, true),
            Step::Door => world.door = true,
            Step::CloseDoor => world.door = false,
            Step::Create => world.container = a_container(&mut world.instance, RunState::Created),
            Step::Start | Step::Unpause => {
                world.container = a_container(&mut world.instance, RunState::Running);
                world.vitals = Vitals { greeted: true, alive: true, ..Vitals::default() };
            }
            Step::Stop => {
                world.container = a_container(&mut world.instance, RunState::Exited);
                world.vitals = Vitals::default();
            }
            Step::NoteExit { .. } => {
                let Container::Ours { observed, .. } = &world.container else { panic!("it is ours") };
                world.instance.exit_seen = observed.exit.as_ref().map(|exit| fingerprint(observed, exit));
                world.instance.restart.done = world.instance.restart.wanted;
            }
            Step::ServeRestart => world.instance.restart.done = world.instance.restart.wanted,
            Step::ServeRebuild => {
                world.instance.rebuild.done = world.instance.rebuild.wanted;
                world.instance.restart.done = world.instance.restart.wanted;
                world.instance.slot.container_id = None;
            }
            Step::Discard(_) | Step::Forget => {
                world.container = Container::Absent;
                world.instance.slot.container_id = None;
                world.instance.slot.container_gen += 1;
            }
            step => panic!("nobody expected {step:?}"),
        }
    }
    panic!("the plan goes in circles");
}
