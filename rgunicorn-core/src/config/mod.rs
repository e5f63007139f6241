//! Every setting, declared once.

use thiserror::Error;

/// The settings, resolved.
#[derive(Debug, Clone)]
pub struct Config {}

/// A configuration that can't be used.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConfigError(String);
