//! Figures of the host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentbot_wire::{Cpu, Grade, Memory};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::error::{Error, Result};
use crate::task::Task;

/// Percent up to which a host is healthy.
const HEALTHY: f64 = 70.0;
/// Percent up to which it is degraded.
const DEGRADED: f64 = 85.0;

struct Sample {
    system: System,
    /// Processor usage is a difference: the first sample gives none.
    samples: u64,
}

/// Samples of the host, taken by a task and read by anybody.
#[derive(Clone)]
pub struct HostSampler(Arc<Mutex<Sample>>);

impl HostSampler {
    /// With a first sample.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn new() -> Result<Self> {
        let kind = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kind).map_err(Error::internal)?;
        Ok(Self(Arc::new(Mutex::new(Sample { system, samples: 1 }))))
    }

    fn sample(&self) -> MutexGuard<'_, Sample> {
        // A refresh that panicked leaves old figures, which the next one replaces.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sample.
    pub fn refresh(&self) {
        let mut sample = self.sample();
        sample.system.refresh_cpu_usage();
        sample.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        sample.samples += 1;
    }

    /// Cores.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.sample().system.cpus().len()
    }

    /// Processors as last sampled.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        let sample = self.sample();
        let usage = (sample.samples > 1).then(|| round(f64::from(sample.system.global_cpu_usage())));
        Cpu { usage, cores: sample.system.cpus().len() }
    }

    /// Memory as last sampled.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let sample = self.sample();
        let (total, free) = (sample.system.total_memory(), sample.system.available_memory());
        let used = total.saturating_sub(free);
        Memory { usage: percent(used, total), total, used, free }
    }
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    // Memory sizes are far below what a double holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let share = (whole > 0).then(|| part as f64 * 100.0 / whole as f64);
    share.map(round)
}

fn round(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

/// How a host does; a figure that nobody measured says nothing against it.
#[must_use]
pub fn grade(cpu: Option<f64>, memory: Option<f64>, engine: bool) -> Grade {
    let worst = cpu.unwrap_or(0.0).max(memory.unwrap_or(0.0));
    if worst > DEGRADED {
        Grade::Unhealthy
    } else if worst > HEALTHY || !engine {
        Grade::Degraded
    } else {
        Grade::Healthy
    }
}

/// The task that samples.
pub struct Sampling(pub HostSampler);

impl Task for Sampling {
    fn name(&self) -> &'static str {
        "host_sampling"
    }

    async fn activate(&mut self) -> Result<String> {
        let host = self.0.clone();
        tokio::task::spawn_blocking(move || host.refresh()).await.map_err(Error::internal)?;
        Ok("sampled processors and memory".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grade_follows_the_worse_figure_on_both_sides_of_each_border() {
        for (cpu, memory, engine, grade_wanted) in [
            (Some(70.0), Some(10.0), true, Grade::Healthy),
            (Some(70.1), Some(10.0), true, Grade::Degraded),
            (Some(10.0), Some(85.0), true, Grade::Degraded),
            (Some(10.0), Some(85.1), true, Grade::Unhealthy),
            (Some(10.0), Some(10.0), false, Grade::Degraded),
            (None, None, true, Grade::Healthy),
        ] {
            assert_eq!(grade(cpu, memory, engine), grade_wanted, "{cpu:?} {memory:?} {engine}");
        }
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let host = HostSampler::new().unwrap();
        assert_eq!(host.cpu().usage, None);
        assert!(host.memory().total > 0);
        assert_eq!(percent(1, 0), None);
    }
}
