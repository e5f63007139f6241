//! TOML configuration files, and every kind of setting behind them.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rgunicorn_core::config;

fuzz_target!(|text: &str| {
    match config::from_toml(Path::new("rgunicorn.toml"), text) {
        Ok(config) => drop(config::print(&config)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
