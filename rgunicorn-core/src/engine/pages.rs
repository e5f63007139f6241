//! Pages that the server answers itself, without the application: health checks and metrics.
//!
//! They are no requests of the application's: nobody counts them, and the access log leaves them out.

use super::Engine;
use super::connection::{Connection, Phase};
use super::exchange::{Exchange, Outcome};
use crate::config::Config;
use crate::metrics::{Health, Snapshot};
use crate::scoreboard::Scoreboard;

/// The paths of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    health: Option<String>,
    metrics: Option<String>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page<'a> {
    /// What stands below the path of health checks.
    Health(&'a str),
    Metrics,
}

impl Pages {
    /// Those that the settings name; none if they name none.
    pub fn of(config: &Config) -> Option<Pages> {
        let (health, metrics) = (config.health_path.clone(), config.metrics_path.clone());
        (health.is_some() || metrics.is_some()).then_some(Pages { health, metrics })
    }

    fn find<'a>(&self, path: &'a [u8]) -> Option<Page<'a>> {
        let path = std::str::from_utf8(path).ok()?;
        if self.metrics.as_deref() == Some(path) {
            return Some(Page::Metrics);
        }
        let below = path.strip_prefix(self.health.as_deref()?)?;
        ["", "/live", "/ready"].contains(&below).then_some(Page::Health(below))
    }
}

impl Engine {
    /// A request is complete. Whose is it?
    #[inline]
    pub(super) fn arrive(&mut self, key: usize) {
        if self.config.pages.is_some() && self.is_page(key) {
            // Answered with the turn, and not here: what follows on the connection would be answered within this call, and
            // what follows that within the next.
            if let Some(connection) = self.connection(key) {
                connection.deadline = None;
                connection.queued = true;
                self.pages.push(key);
            }
        } else {
            self.enqueue(key);
        }
    }

    fn is_page(&self, key: usize) -> bool {
        let connection = self.places.get(key).and_then(|place| place.connection.as_deref());
        let path = connection.and_then(Connection::head).map(|(head, bytes)| head.path.of(bytes));
        path.zip(self.config.pages.as_ref()).is_some_and(|(path, pages)| pages.find(path).is_some())
    }

    /// Answers the requests for pages that have come.
    pub(super) fn answer_pages(&mut self) {
        for key in std::mem::take(&mut self.pages) {
            let Some(place) = self.places.get_mut(key) else { continue };
            let Some(connection) = place.connection.take_if(|it| it.queued && it.phase == Phase::Ready)
            else {
                continue;
            };
            let mut exchange = Exchange { key, connection, outcome: Outcome::Pending, holding: false };
            exchange.connection.queued = false;
            if exchange.begin() {
                exchange.connection.page = true;
                self.answer_page(&mut exchange.connection);
                exchange.conclude();
                self.give_back(exchange);
            } else {
                // Answers before this one must go first.
                exchange.connection.queued = true;
                self.pages.push(key);
                if let Some(place) = self.places.get_mut(key) {
                    place.connection = Some(exchange.connection);
                }
            }
        }
    }

    fn answer_page(&self, connection: &mut Connection) {
        let path = connection.head().map(|(head, bytes)| head.path.of(bytes).to_vec()).unwrap_or_default();
        let page = self.config.pages.as_ref().and_then(|pages| pages.find(&path));
        let scoreboard = self.tally.slot().scoreboard();
        let (status, kind, body) = match (page, scoreboard) {
            (Some(Page::Metrics), Some(scoreboard)) => {
                ("200 OK", Snapshot::PROMETHEUS, self.metrics(scoreboard))
            }
            (Some(Page::Health(below)), Some(scoreboard)) => {
                let (status, body) = Health::answer(scoreboard, below);
                (status, "application/json", body)
            }
            _ => ("503 Service Unavailable", "text/plain", "This process has no scoreboard.\n".to_owned()),
        };
        let response = &mut connection.response;
        if self.draining || self.ends_connections() {
            response.end_connection();
        }
        // A status and headers of our own making are valid.
        let _ = response.start(status.as_bytes());
        let _ = response.header(b"Content-Type", kind.as_bytes());
        let _ = response.header(b"Cache-Control", b"no-store");
        let _ = response.send(body.as_bytes());
    }

    fn metrics(&self, scoreboard: &Scoreboard) -> String {
        Snapshot::take(scoreboard, self.acceptor.queues()).prometheus()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_whole() {
        let pages = Pages { health: Some("/health".into()), metrics: Some("/metrics".into()) };
        for (path, page) in [
            ("/health", Some(Page::Health(""))),
            ("/health/live", Some(Page::Health("/live"))),
            ("/health/ready", Some(Page::Health("/ready"))),
            ("/healthy", None),
            ("/health/", None),
            ("/metrics", Some(Page::Metrics)),
            ("/metrics/x", None),
            ("/", None),
        ] {
            assert_eq!(pages.find(path.as_bytes()), page, "{path}");
        }
    }

    #[test]
    fn settings_that_name_none_make_none() {
        assert_eq!(Pages::of(&Config::default()), None);
    }
}
