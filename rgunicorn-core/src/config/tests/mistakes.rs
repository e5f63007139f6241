//! What mistakes are answered with: where, what, and what would be right.

use super::*;

#[track_caller]
fn refused(world: World, message: &str, status: i32) {
    assert_eq!(world.error(), (message.to_string(), status));
}

#[test]
fn a_flag_names_itself() {
    refused(World::new("-w x"), "argument -w/--workers: 'x' is not a whole number, 0 or more", 2);
    refused(World::new("--workers=-1"), "argument -w/--workers: '-1' is not a whole number, 0 or more", 2);
    refused(
        World::new("-t 5s"),
        "argument -t/--timeout: '5s' is not a time in seconds, such as 30 or 0.5",
        2,
    );
    refused(
        World::new("--worker-connections 0"),
        "argument --worker-connections: '0' is not a whole number, 1 or more",
        2,
    );
    refused(
        World::new("-b localhost:http"),
        "argument -b/--bind: \"http\" in \"localhost:http\" is not a port, which is a number from 0 to 65535",
        2,
    );
    refused(
        World::new("--log-level loud"),
        "argument --log-level: 'loud' is not one of debug, info, warning, error or critical",
        2,
    );
    refused(
        World::new("-m 099"),
        "argument -m/--umask: '099' is not a mode or mask, such as 0o22, 022 or 18",
        2,
    );
    refused(World::new("-e PATH"), "argument -e/--env: \"PATH\" is not NAME=value", 2);
    refused(World::new("--chdir nowhere"), "argument --chdir: DIR/nowhere is not a directory", 2);
    refused(
        World::new("-u nobody-of-that-name"),
        "argument -u/--user: there is no user \"nobody-of-that-name\" on this system; give a name it knows, or a number",
        2,
    );
    refused(
        World::new("--forwarded-allow-ips proxy"),
        "argument --forwarded-allow-ips: \"proxy\" is neither an IP address, a network such as 10.0.0.0/8, nor *",
        2,
    );
}

#[test]
fn a_file_names_its_line() {
    refused(
        World::new("-c a.toml").file("a.toml", "\nworkers = 'many'"),
        "DIR/a.toml:2: workers: 'many' is not a whole number, 0 or more",
        1,
    );
    refused(
        World::new("").file("rgunicorn.toml", "bnid = ':1'"),
        "DIR/rgunicorn.toml:1: there is no setting \"bnid\"; did you mean \"bind\"?",
        1,
    );
    refused(
        World::new("-c c.py").file("c.py", "import os\npreload_app = 1").python("preload_app", Value::Int(1)),
        "DIR/c.py:2: preload_app: 1 is not true or false",
        1,
    );
    refused(
        World::new("-c python:settings.production").python("workers", Value::None),
        "python:settings.production: workers: None is not a whole number, 0 or more",
        1,
    );
}

#[test]
fn an_environment_variable_names_itself() {
    refused(
        World::new("").env("WEB_CONCURRENCY", "two"),
        "environment variable WEB_CONCURRENCY: 'two' is not a whole number, 0 or more",
        1,
    );
    refused(
        World::new("").env("GUNICORN_CMD_ARGS", "--workers two"),
        "GUNICORN_CMD_ARGS: argument -w/--workers: 'two' is not a whole number, 0 or more",
        2,
    );
    refused(
        World::new("").env("GUNICORN_CMD_ARGS", "--wokers 2"),
        "GUNICORN_CMD_ARGS: there is no argument --wokers; did you mean --workers?",
        2,
    );
    refused(
        World::new("").env("RGUNICORN_CMD_ARGS", "-n 'a"),
        "RGUNICORN_CMD_ARGS: a quotation mark is not closed in \"-n 'a\"",
        2,
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    refused(
        World::new("-c missing.py"),
        "configuration file DIR/missing.py: No such file or directory (os error 2)",
        1,
    );
}

#[test]
fn python_files_need_python() {
    let world = World::new("-c cfg.py").file("cfg.py", "");
    let error = load(&world.sources, &NoPython).unwrap_err();
    assert_eq!(error.exit_status(), 1);
    assert!(error.to_string().contains("cfg.py: it is in Python"), "{error}");
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name() {
    let version = crate::VERSION;
    refused(
        World::new("--dirty-workers 1"),
        &format!(
            "argument --dirty-workers: dirty_workers = 1 isn't supported yet: rgunicorn {version} only knows the default, 0"
        ),
        1,
    );
    refused(
        World::new("").file("rgunicorn.toml", "certfile = 'a.pem'"),
        &format!(
            "DIR/rgunicorn.toml:1: certfile = 'a.pem' isn't supported yet: rgunicorn {version} only knows \
             the default, None"
        ),
        1,
    );
    refused(
        World::new("-c c.py")
            .file("c.py", "def ssl_context(config, default):\n  pass\n")
            .python("ssl_context", Value::Callable("ssl_context".into())),
        &format!(
            "DIR/c.py:1: the hook ssl_context isn't supported yet by rgunicorn {version}: remove it from the file"
        ),
        1,
    );
}

#[test]
fn every_planned_setting_takes_its_default_and_refuses_another_value() {
    for setting in SETTINGS.iter().filter(|setting| setting.status == Status::Planned) {
        let with = |value| World::new("-c c.py").file("c.py", "").python(setting.name, value).load();
        with(setting.default()).unwrap();
        let other = match setting.default() {
            Value::Bool(on) => vec![Value::Bool(!on)],
            Value::Map(_) => vec![Value::Map(vec![("a".into(), Value::Int(1))])],
            Value::Callable(_) => unreachable!("no hook has a default"),
            // Some word or number is valid for each of the others.
            _ => ["x", "20000", "uvloop", "10.0.0.1", "both", "off", "poll", "v2", "h2", "0o660"]
                .map(Value::text)
                .to_vec(),
        };
        let other = if setting.is_hook() { vec![Value::Callable("f".into())] } else { other };
        let refused = other.into_iter().any(|value| match with(value) {
            Err(ConfigError::Planned { setting: name, .. } | ConfigError::Hook { setting: name, .. }) => {
                name == setting.name
            }
            _ => false,
        });
        assert!(refused, "{}", setting.name);
    }
}

#[test]
fn a_stronger_source_can_take_a_planned_setting_back() {
    let world = World::new("--proxy-protocol off").file("rgunicorn.toml", "proxy_protocol = true");
    assert_eq!(world.config().proxy_protocol, "off");
}

#[test]
fn what_is_accepted_without_effect_is_still_checked() {
    let config = World::new("--http-parser fast --no-control-socket").config();
    assert_eq!(config.http_parser, "fast");
    assert!(config.control_socket_disable);
    refused(
        World::new("--http-parser quick"),
        "argument --http-parser: 'quick' is not one of auto, fast or python",
        2,
    );
}

#[test]
fn an_application_is_asked_for_only_where_one_is_needed() {
    let error = World::new("").config().application().unwrap_err();
    assert_eq!(error.exit_status(), 1);
    assert!(error.to_string().contains("rgunicorn module:app"), "{error}");
}

#[test]
fn a_missing_upload_directory_is_warned_of() {
    let world = World::new("").file("rgunicorn.toml", "tmp_upload_dir = 'uploads'");
    let warnings = world.load().unwrap().warnings;
    assert!(
        warnings.first().unwrap().contains("rgunicorn.toml:1: tmp_upload_dir: uploads is not a directory")
    );
    std::fs::create_dir(world.path("uploads")).unwrap();
    assert!(world.load().unwrap().warnings.is_empty());
}
