//! The table of settings against gunicorn's, and against itself.

use std::collections::BTreeSet;

use super::*;

/// Section, name, flags and default of each setting of gunicorn 27.
const GUNICORN: &str = include_str!("gunicorn-27.tsv");

/// What a default is called in that file.
fn default_of(text: &str) -> Value {
    let texts = |inside: &str| {
        inside
            .split(", ")
            .filter(|item| !item.is_empty())
            .map(|item| Value::text(item.trim_matches('\'')))
            .collect()
    };
    match text {
        "None" => Value::None,
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        _ if text.starts_with('[') => Value::List(texts(text.trim_matches(['[', ']']))),
        _ if text.starts_with('{') => {
            let pairs = text.trim_matches(['{', '}']).split(", ").filter_map(|pair| pair.split_once(": "));
            let unquoted = |text: &str| text.trim_matches('\'').to_string();
            Value::Map(pairs.map(|(name, value)| (unquoted(name), Value::Text(unquoted(value)))).collect())
        }
        _ => Value::text(text),
    }
}

#[test]
fn every_setting_of_gunicorn_is_here_with_its_flags_and_default() {
    let mut names = BTreeSet::new();
    for row in GUNICORN.lines() {
        let [section, name, flags, default] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let setting =
            SETTINGS.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(setting.section, section, "{name}");
        assert_eq!(
            setting.flags,
            flags.split(' ').filter(|flag| !flag.is_empty()).collect::<Vec<_>>(),
            "{name}"
        );
        // The one default that is a name, and so ours.
        let default = if name == "default_proc_name" { "rgunicorn" } else { default };
        let mut config = Config::declared();
        setting.set(&mut config, &default_of(default)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(setting.get(&config), setting.default(), "{name}");
        assert!(names.insert(name), "{name} twice");
    }
    let ours: Vec<_> =
        SETTINGS.iter().filter(|s| !names.contains(s.name)).map(|s| (s.name, s.is_ours())).collect();
    assert_eq!(
        ours,
        [
            ("client_header_timeout", true),
            ("client_body_timeout", true),
            ("send_timeout", true),
            ("worker_max_rss", true),
            ("worker_memory_limit", true),
            ("workers_max", true),
            ("workers_idle", true),
            ("stop_delay", true),
            ("request_timeout", true),
            ("loop_lag", true),
            ("coro_stack", true),
            ("coro_shared_locals", true),
            ("coro_exchanged_locals", true),
            ("limit_request_head", true),
            ("limit_request_body", true),
            ("request_body_buffer", true),
            ("tmp_upload_limit", true),
            ("websocket_ping_interval", true),
            ("websocket_ping_timeout", true),
            ("access_log_json", true),
            ("access_log_skip", true),
            ("error_log_json", true),
            ("slow_request", true),
            ("health_path", true),
            ("metrics_path", true),
            ("metrics_bind", true),
        ]
    );
}

#[test]
fn names_and_flags_are_unique_and_help_is_a_sentence() {
    let mut seen = BTreeSet::new();
    for setting in SETTINGS {
        for word in setting.flags.iter().chain([&setting.name]) {
            assert!(seen.insert(*word), "{word} twice");
        }
        assert!(setting.help.trim().ends_with('.'), "{}", setting.name);
    }
}

#[test]
fn what_is_shown_reads_back() {
    for setting in SETTINGS {
        let mut config = Config::declared();
        setting
            .set(&mut config, &setting.default())
            .unwrap_or_else(|error| panic!("{}: {error}", setting.name));
        assert_eq!(setting.get(&config), setting.default(), "{}", setting.name);
    }
}

#[test]
fn the_default_configuration_is_that_of_an_empty_command_line() {
    let world = World::new("");
    let loaded = world.config();
    assert_eq!(loaded.chdir, world.directory.path());
    assert!(Config::default().chdir.is_absolute());
    let default = Config { chdir: loaded.chdir.clone(), ..Config::default() };
    assert_eq!(print(&loaded), print(&default));
}

#[test]
fn a_configuration_can_be_shared_by_threads() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    shared::<Config>();
    shared::<ConfigError>();
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    /// Any text is either refused or kept, in what is shown, as it was understood; nothing panics.
    #[test]
    fn any_text_is_refused_or_reads_back(text in "\\PC{0,12}|[-+0-9a-z_.:@/\\[\\]=,]{0,12}") {
        // Looking users and groups up asks the system, which may ask the network.
        for setting in SETTINGS.iter().filter(|setting| !["user", "group"].contains(&setting.name)) {
            let mut config = Config::declared();
            if setting.set(&mut config, &Value::text(&text)).is_ok() {
                let shown = setting.get(&config);
                let mut again = Config::declared();
                proptest::prop_assert_eq!(setting.set(&mut again, &shown), Ok(()), "{}", setting.name);
                proptest::prop_assert_eq!(setting.get(&again), shown, "{}", setting.name);
            }
        }
    }
}
