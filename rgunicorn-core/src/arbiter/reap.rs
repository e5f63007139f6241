//! What the end of a child means.

use super::Master;
use super::workers::{Fate, Leaving, Worker};
use crate::scoreboard::{Cause, Event};
use crate::sys::clock::monotonic_ms;
use crate::sys::fork::{self, Ended, Pid};
use crate::sys::signals;
use crate::worker::{EXIT_BOOT, EXIT_LOAD, Stop};

impl Master {
    /// Takes in all children that have ended. As process 1 of a container, orphans are among them.
    pub(super) fn reap(&mut self) {
        while let Some((pid, ended)) = fork::reap() {
            match self.workers.remove(pid) {
                Some(mut worker) => {
                    self.take_last_words(&mut worker);
                    self.bury(&worker, ended);
                }
                None if self.bury_heir(pid, ended) => {}
                None => tracing::debug!("Reaped unknown child process (pid:{pid}, status:{ended:?})"),
            }
        }
    }

    fn bury(&mut self, worker: &Worker, ended: Ended) {
        if !matches!((worker.fate, worker.worn), (Fate::Killed { .. }, Some(Leaving::Memory { .. }))) {
            self.report(worker.pid, ended, worker.fate);
        }
        let booted = self.scoreboard.view(worker.slot).booted;
        self.scoreboard.count(Event::Ended(self.cause(worker, ended)));
        self.scoreboard.free(worker.slot);
        self.hooks.child_exit(worker.pid.as_raw());
        if booted && !worker.booted && self.ending.is_none() {
            // It was gone before we had noticed that it came.
            self.has_booted(worker.generation);
        }
        if self.ending.is_some() || matches!(worker.fate, Fate::Leaves { .. }) {
            return;
        }
        let birth_death = (!booted).then(|| reason(ended));
        if let Some(reason) = birth_death.filter(|_| self.is_next(worker.generation)) {
            self.abandon_reload(&format!(
                "worker (pid:{}) of generation {}: {reason}",
                worker.pid, worker.generation
            ));
            return;
        }
        match ended {
            // The very first worker can't boot, so the others won't either.
            Ended::Exited(status @ (EXIT_BOOT | EXIT_LOAD)) if !booted && !self.proven => {
                self.end(Stop::Graceful, status, Some(reason(ended)));
            }
            Ended::Exited(0) if booted => {}
            _ => {
                let now = monotonic_ms();
                let mut generations = std::iter::once(&mut self.current).chain(&mut self.next);
                if let Some(generation) =
                    generations.find(|generation| generation.number == worker.generation)
                {
                    generation.backoff.failed(now);
                }
            }
        }
    }

    fn report(&mut self, pid: Pid, ended: Ended, fate: Fate) {
        match ended {
            Ended::Exited(0) => {}
            Ended::Exited(status) => tracing::error!("Worker (pid:{pid}) exited with code {status}."),
            Ended::Killed(libc::SIGKILL) => match (fate, self.out_of_memory.has_killed()) {
                (Fate::Killed { .. }, _) => {
                    tracing::warn!("Worker (pid:{pid}) was sent SIGKILL, as it did not stop in time");
                }
                (_, Some(true)) => tracing::error!(
                    "Worker (pid:{pid}) was sent SIGKILL! Out of memory: the kernel killed it, as the control group says"
                ),
                (_, Some(false)) => tracing::error!(
                    "Worker (pid:{pid}) was sent SIGKILL! By somebody: it was not for lack of memory, as the control group says"
                ),
                (_, None) => tracing::error!("Worker (pid:{pid}) was sent SIGKILL! Perhaps out of memory?"),
            },
            Ended::Killed(libc::SIGTERM) => tracing::info!("Worker (pid:{pid}) was sent SIGTERM!"),
            Ended::Killed(signal) => {
                tracing::warn!("Worker (pid:{pid}) was sent {}!", signals::name_of(signal));
            }
        }
    }

    fn cause(&self, worker: &Worker, ended: Ended) -> Cause {
        match (worker.fate, ended) {
            (Fate::Hangs { .. }, _) => Cause::Timeout,
            (Fate::Leaves { .. } | Fate::Killed { .. }, _) if self.ending.is_some() => Cause::Shutdown,
            (Fate::Leaves { .. } | Fate::Killed { .. }, _) if worker.worn.is_some() => Cause::Recycled,
            (Fate::Leaves { .. } | Fate::Killed { .. }, _) if worker.generation != self.current.number => {
                Cause::Reload
            }
            (Fate::Leaves { .. }, _) => Cause::Scaled,
            (Fate::Killed { .. }, _) => Cause::Timeout,
            (Fate::Serves | Fate::Retires(_) | Fate::Departs { .. }, Ended::Exited(0)) => Cause::Recycled,
            (Fate::Serves | Fate::Retires(_) | Fate::Departs { .. }, Ended::Exited(_)) => Cause::Failed,
            (Fate::Serves | Fate::Retires(_) | Fate::Departs { .. }, Ended::Killed(_)) => Cause::Killed,
        }
    }

    fn is_next(&self, generation: u64) -> bool {
        self.next.as_ref().is_some_and(|next| next.number == generation)
    }
}

/// Why a worker that did not boot didn't, as far as its end tells.
fn reason(ended: Ended) -> &'static str {
    match ended {
        Ended::Exited(EXIT_LOAD) => "App failed to load.",
        Ended::Exited(EXIT_BOOT) => "Worker failed to boot.",
        Ended::Exited(_) | Ended::Killed(_) => "Worker ended before it had booted.",
    }
}
