//! What one reading of the settings brought.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use crate::config::Config;
use crate::socket::{BindError, Listener, Share};
use crate::sys::clock::monotonic_ms;
use crate::worker::WorkerClass;

/// The settings, and what was made from them.
pub(super) struct Generation {
    /// Counts the readings of the settings; 1 is the first.
    pub(super) number: u64,
    pub(super) config: Arc<Config>,
    pub(super) class: Arc<dyn WorkerClass>,
    /// Shared with the generation before where the address is the same.
    pub(super) listeners: Vec<Rc<Listener>>,
    /// How many workers there should be: `workers`, as TTIN and TTOU have changed it.
    pub(super) target: usize,
    pub(super) backoff: Backoff,
    /// When that was, in milliseconds.
    pub(super) begun: u64,
}

impl Generation {
    pub(super) fn new(
        number: u64,
        config: Config,
        class: Arc<dyn WorkerClass>,
        listeners: Vec<Rc<Listener>>,
    ) -> Generation {
        let target = config.workers;
        let backoff = Backoff::default();
        let begun = monotonic_ms();
        Generation { number, config: Arc::new(config), class, listeners, target, backoff, begun }
    }

    /// The listeners that `config` asks for: those that are here already stay, the others are bound.
    pub(super) fn listeners_for(&self, config: &Config) -> Result<Vec<Rc<Listener>>, BindError> {
        let mut listeners: Vec<Rc<Listener>> = Vec::with_capacity(config.bind.len());
        for address in &config.bind {
            let known = self.listeners.iter().find(|listener| listener.fits(address, config));
            let bound = match known {
                Some(listener) => Ok(Rc::clone(listener)),
                None => Listener::bind_one(address, config).map(Rc::new),
            };
            match bound {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    unlink_all_but(&listeners, &self.listeners);
                    return Err(error);
                }
            }
        }
        Ok(listeners)
    }

    /// After how many milliseconds a request is taken to hang: when the server is ready no more, it is time to see why.
    pub(super) fn stuck_after(&self) -> u64 {
        const WITHOUT_LIMIT: Duration = Duration::from_secs(30);
        let config = &self.config;
        let limits = [config.slow_request, config.timeout / 2].into_iter().filter(|limit| !limit.is_zero());
        limits.min().unwrap_or(WITHOUT_LIMIT).as_millis() as u64
    }

    /// With `reuse_port`: which of the sockets the worker with this seat accepts from; else there is nothing to share out.
    pub(super) fn share(&self, seat: usize) -> Vec<usize> {
        sockets_of(&self.listeners, Share { seat, of: self.target })
    }

    /// The addresses, as the log shows them.
    pub(super) fn addresses(&self) -> String {
        self.listeners.iter().map(|listener| listener.to_string()).collect::<Vec<_>>().join(",")
    }
}

/// With `reuse_port`: which of the sockets of each listener are a worker's; else there is nothing to share out.
pub(super) fn sockets_of(listeners: &[Rc<Listener>], share: Share) -> Vec<usize> {
    let sockets = listeners.iter().filter_map(|listener| listener.shared_out()).max();
    sockets.map_or_else(Vec::new, |sockets| share.of(sockets).collect())
}

/// Removes the socket files of `listeners`, except of those that are in `kept` too.
pub(super) fn unlink_all_but(listeners: &[Rc<Listener>], kept: &[Rc<Listener>]) {
    for listener in listeners {
        if !kept.iter().any(|other| Rc::ptr_eq(listener, other)) {
            listener.unlink();
        }
    }
}
