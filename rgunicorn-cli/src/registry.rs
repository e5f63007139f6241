//! The worker classes by name: what `-k` picks from.

use std::sync::Arc;

use rgunicorn_core::config::{Config, ConfigError};
use rgunicorn_core::worker::WorkerClass;

/// The known worker classes.
pub(crate) struct Registry {
    classes: Vec<Arc<dyn WorkerClass>>,
    others: Vec<Finder>,
}

/// Makes the class behind a name that no known class has, if there is one.
pub(crate) type Finder = Box<dyn Fn(&str) -> Option<Arc<dyn WorkerClass>>>;

impl Registry {
    pub(crate) fn new(classes: Vec<Arc<dyn WorkerClass>>) -> Self {
        Registry { classes, others: Vec::new() }
    }

    /// Adds a way to find classes by names that no known class has.
    pub(crate) fn find_by(&mut self, finder: Finder) {
        self.others.push(finder);
    }

    pub(crate) fn add(&mut self, class: Arc<dyn WorkerClass>) {
        self.classes.retain(|known| known.name() != class.name());
        self.classes.push(class);
    }

    /// The class that the configuration asks for. As in gunicorn, `sync` with several threads means `threads`.
    ///
    /// # Errors
    /// Names the setting, what was asked for, and the known classes.
    pub(crate) fn pick(&self, config: &Config) -> Result<Arc<dyn WorkerClass>, ConfigError> {
        let class = self.find(&config.worker_class).ok_or_else(|| self.unknown(&config.worker_class))?;
        if class.name() == "sync" && config.threads > 1 {
            return self.find("threads").ok_or_else(|| self.unknown("threads"));
        }
        Ok(class)
    }

    fn find(&self, name: &str) -> Option<Arc<dyn WorkerClass>> {
        let known = |class: &&Arc<dyn WorkerClass>| class.name() == name || class.aliases().contains(&name);
        let known = self.classes.iter().find(known).cloned();
        known.or_else(|| self.others.iter().find_map(|find| find(name)))
    }

    fn unknown(&self, name: &str) -> ConfigError {
        let mut known: Vec<_> = self.classes.iter().map(|class| class.name()).collect();
        known.sort_unstable();
        ConfigError::setting(
            "worker_class",
            format!(
                "{name:?} isn't known; the known worker classes are {}{}",
                known.join(", "),
                if self.others.is_empty() {
                    ""
                } else {
                    ", and Python classes by their path, such as package.Class"
                }
            ),
        )
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.classes.iter().map(|class| class.name())).finish()
    }
}
