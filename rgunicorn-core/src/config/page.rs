//! Settings made readable: `--print-config`, and the reference page.

use std::fmt::Write;

use super::kind::Takes;
use super::settings::{Config, SETTINGS};
use super::table::{Setting, Status};
use super::value::Value;

/// Every setting as resolved, sorted, as gunicorn's `--print-config` has it; ends without a line end.
pub fn print(config: &Config) -> String {
    let width = SETTINGS.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    let mut lines: Vec<String> =
        SETTINGS.iter().map(|setting| format!("{:width$} = {}", setting.name, setting.get(config))).collect();
    lines.sort();
    lines.join("\n")
}

/// The reference page, `docs/settings.md`.
pub fn settings_page() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let _ = write!(page, "\n## {section}\n");
            if setting.is_ours() {
                page.push_str("\nSettings that gunicorn doesn't have.\n");
            }
        }
        page.push_str(&entry(setting));
    }
    page.push_str(&missing());
    page
}

/// Why what is not there yet isn't, and what there is instead.
const REASONS: &[(&[&str], &str)] = &[
    (
        &[
            "keyfile",
            "certfile",
            "cert_reqs",
            "ca_certs",
            "suppress_ragged_eofs",
            "do_handshake_on_connect",
            "ciphers",
            "ssl_context",
        ],
        "The engine speaks no TLS yet. nginx, HAProxy and Caddy do, in front of it.",
    ),
    (
        &["http_protocols", "http2_"],
        "HTTP/2 comes with TLS: browsers speak it in no other way. What stands in front speaks HTTP/1.1 to servers anyway.",
    ),
    (
        &["protocol", "uwsgi_allow_ips"],
        "What speaks the uwsgi protocol to a server speaks HTTP to it as well.",
    ),
    (
        &["dirty_", "on_dirty_starting"],
        "Processes for long tasks beside the workers: a task queue (Celery, RQ, Dramatiq) outlives the web server, too; \
         requests that only wait for long are what `coro` is for.",
    ),
];

/// The list of what is not there yet, with the reasons.
fn missing() -> String {
    let mut out = String::from("\n## What is missing\n\n");
    let planned: Vec<&Setting> =
        SETTINGS.iter().filter(|setting| setting.status == Status::Planned).collect();
    let mut told = Vec::new();
    for (names, reason) in REASONS {
        let is = |setting: &Setting| {
            names
                .iter()
                .any(|name| setting.name == *name || name.ends_with('_') && setting.name.starts_with(name))
        };
        let these: Vec<String> = planned
            .iter()
            .filter(|setting| is(setting))
            .map(|setting| format!("`{}`", setting.name))
            .collect();
        if !these.is_empty() {
            let _ = writeln!(out, "- {}: {reason}", these.join(", "));
        }
        told.extend(these);
    }
    let others: Vec<String> = planned
        .iter()
        .map(|setting| format!("`{}`", setting.name))
        .filter(|name| !told.contains(name))
        .collect();
    if !others.is_empty() {
        let _ = writeln!(out, "- {}: not built yet.", others.join(", "));
    }
    out
}

const INTRODUCTION: &str = "\
# Settings

<!-- Made from the table in rgunicorn-core/src/config/settings.rs; `RGUNICORN_BLESS=1 cargo test -p rgunicorn-core
settings_page` writes it anew. -->

A setting's name is its key in configuration files, Python or TOML. Values come from these sources; a later one goes
before an earlier one:

1. the default;
2. the environment: `WEB_CONCURRENCY`, `PORT`, `FORWARDED_ALLOW_IPS`, `SENDFILE`;
3. the configuration file: `-c FILE`, `-c python:MODULE`, or else `./gunicorn.conf.py`, or else `./rgunicorn.toml`;
4. arguments in the environment: `GUNICORN_CMD_ARGS`, then `RGUNICORN_CMD_ARGS`;
5. the command line.

Every setting of gunicorn 27 is here. One that is *not supported yet* takes its default alone: any other value is an
error at start-up. `rgunicorn --print-config` shows what all of this comes to.
";

fn entry(setting: &Setting) -> String {
    let mut out = format!("\n### `{}`\n\n", setting.name);
    let mut facts = Vec::new();
    if !setting.flags.is_empty() {
        let value = match setting.takes {
            Takes::Nothing(_) => String::new(),
            Takes::OptionalValue(_) => format!(" [{}]", setting.metavar()),
            Takes::Value | Takes::Values => format!(" {}", setting.metavar()),
        };
        let flags: Vec<String> = setting.flags.iter().map(|flag| format!("`{flag}{value}`")).collect();
        facts.push(flags.join(", "));
    }
    facts.push(setting.expects.to_string());
    facts.push(match setting.default() {
        Value::Text(text) if text.is_empty() => "default empty".to_string(),
        value => format!("default `{value}`"),
    });
    let _ = write!(out, "{}.\n\n{}", facts.join("; "), setting.help.trim());
    match setting.status {
        Status::Implemented => {}
        Status::Planned => out.push_str(" *Not supported yet.*"),
        Status::Accepted(reason) => {
            let _ = write!(out, " *Accepted without effect: {reason}.*");
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_is_sorted_and_aligned() {
        let text = print(&Config { workers: 3, ..Config::declared() });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), SETTINGS.len());
        assert!(lines.is_sorted());
        assert!(lines.contains(&"workers                            = 3"), "{text}");
        assert!(lines.contains(&"bind                               = ['127.0.0.1:8000']"));
        assert!(lines.contains(&"forwarded_allow_ips                = ['127.0.0.1', '::1']"));
        assert!(lines.contains(&"pidfile                            = None"));
        assert!(lines.contains(&"umask                              = 0"));
    }

    #[test]
    fn settings_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");
        if std::env::var_os("RGUNICORN_BLESS").is_some() {
            std::fs::write(path, settings_page()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == settings_page(),
            "docs/settings.md is not what the table of settings says; \
             RGUNICORN_BLESS=1 cargo test -p rgunicorn-core settings_page writes it anew"
        );
    }
}
