//! Every setting, declared once; where values come from and what they mean.
//!
//! The way of a setting: declared in `settings`; set by a source (the command line, a TOML or Python file, the
//! environment), which gives a [`Value`]; read by its kind; stronger sources over weaker ones ([`load`]); a field of
//! [`Config`], which the arbiter hands to every worker.
//!
//! | file | what it is |
//! | --- | --- |
//! | `settings` | the table: every setting, and nothing else |
//! | `table` | the macro that makes it, and [`Setting`]: what there is to know of one |
//! | `kind` | what values a setting takes |
//! | `value` | a value as a source gives it |
//! | `address` | an address to listen on |
//! | `sources` | [`load`]: which source goes before which |
//! | `cli` | the command line |
//! | `files`, `toml_file`, `python` | configuration files |
//! | `generate` | the manual page and completions, from the command line's definition |
//! | `error` | what is wrong with a configuration, and where |
//! | `page` | `--print-config` and `docs/settings.md` |

mod address;
mod cli;
mod error;
mod files;
mod generate;
mod kind;
mod nearest;
mod page;
mod python;
mod settings;
mod sources;
mod table;
mod toml_file;
mod value;

#[cfg(test)]
mod tests;

pub use address::BindAddress;
pub use cli::report;
pub use error::{ConfigError, Origin};
pub use files::python_location;
pub use kind::{LogLevel, LogTarget, Takes};
pub use page::{print, settings_page};
pub use python::{Evaluation, NoPython, PythonConfig, PythonLocation, RawEntry};
pub use settings::{Config, SETTINGS};
pub use sources::{Loaded, Outcome, Sources, current_directory, from_toml, load};
pub use table::{Setting, Status};
pub use value::Value;

use std::sync::Arc;

use crate::app::{Allowance, Scratch, SpoolLimits};
use crate::http::{Limits, Policy};

impl Config {
    /// The application, as `module:attribute`, or the PasteDeploy file.
    ///
    /// # Errors
    /// [`ConfigError::NoApplication`]: there is a program around it that has none of its own.
    pub fn application(&self) -> Result<&str, ConfigError> {
        self.paste.as_deref().or(self.wsgi_app.as_deref()).ok_or(ConfigError::NoApplication)
    }

    /// What processes are called: `proc_name`, or else `default_proc_name`.
    pub fn proc_name(&self) -> &str {
        self.proc_name.as_deref().unwrap_or(&self.default_proc_name)
    }

    /// Whether the logs go through a logger of the host's language, Python's, in place of our own.
    pub fn has_host_logger(&self) -> bool {
        // The second one is this server's business: `statsd_host`.
        const OURS: [&str; 2] = ["gunicorn.glogging.Logger", "gunicorn.instrument.statsd.Statsd"];
        self.logconfig.is_some()
            || self.logconfig_json.is_some()
            || !self.logconfig_dict.is_empty()
            || !OURS.contains(&self.logger_class.as_str())
    }

    /// What request heads are checked against.
    pub fn http_policy(&self) -> Policy {
        Policy {
            limits: Limits {
                line: self.limit_request_line,
                fields: self.limit_request_fields,
                field_size: self.limit_request_field_size,
                head: usize::try_from(self.limit_request_head).unwrap_or(usize::MAX),
            },
            permit_obsolete_folding: self.permit_obsolete_folding,
            strip_header_spaces: self.strip_header_spaces,
            permit_unconventional_http_method: self.permit_unconventional_http_method,
            permit_unconventional_http_version: self.permit_unconventional_http_version,
            casefold_http_method: self.casefold_http_method,
            header_map: self.header_map,
            forwarder_headers: self.forwarder_headers.clone(),
            forwarded_allow: self.forwarded_allow_ips.clone(),
            secure_scheme_headers: self.secure_scheme_headers.clone(),
        }
    }

    /// How much of a request body is kept in memory, and where the rest goes.
    pub fn spool_limits(&self) -> SpoolLimits {
        SpoolLimits {
            memory: self.request_body_buffer,
            scratch: Scratch::new(self.tmp_upload_dir.clone(), self.worker_tmp_dir.clone()),
            allowance: Arc::new(Allowance::new(self.tmp_upload_limit)),
        }
    }
}
