//! Which source goes before which.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

#[test]
fn each_source_goes_before_the_weaker_ones() {
    let world = World::new("");
    assert_eq!(world.config().workers, 1);
    let world = world.env("WEB_CONCURRENCY", "2");
    assert_eq!(world.config().workers, 2);
    let world = world.file("rgunicorn.toml", "workers = 3");
    assert_eq!(world.config().workers, 3);
    let world = world.env("GUNICORN_CMD_ARGS", "--workers 4");
    assert_eq!(world.config().workers, 4);
    let world = world.env("RGUNICORN_CMD_ARGS", "-w5");
    assert_eq!(world.config().workers, 5);
    let mut world = world;
    world.sources.args = vec!["-w".into(), "6".into()];
    let loaded = world.load().unwrap();
    assert_eq!(loaded.config.workers, 6);
    assert_eq!(loaded.origins["workers"], Origin::CommandLine { flag: "-w/--workers".into() });
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_environment_is_read_as_gunicorn_reads_it() {
    let config = World::new("")
        .env("PORT", "9000")
        .env("FORWARDED_ALLOW_IPS", "10.0.0.0/8")
        .env("SENDFILE", "no")
        .config();
    assert_eq!(config.bind, [tcp("0.0.0.0", 9000)]);
    assert_eq!(config.forwarded_allow_ips.to_string(), "10.0.0.0/8");
    assert!(!config.sendfile);
    assert!(World::new("").env("SENDFILE", "Yes").config().sendfile);
    assert_eq!(World::new("-b :1").env("PORT", "9000").config().bind, [tcp("0.0.0.0", 1)]);

    let empty =
        World::new("").env("PORT", "").env("WEB_CONCURRENCY", "").env("FORWARDED_ALLOW_IPS", "").config();
    assert_eq!((empty.bind, empty.workers), (vec![tcp("127.0.0.1", 8000)], 1));
    assert_eq!(empty.forwarded_allow_ips.to_string(), "", "empty trusts nobody");
}

#[test]
fn lists_are_replaced_and_not_added_to() {
    let world = World::new("-b :3 -b :4").file("rgunicorn.toml", "bind = [':1', ':2']\nraw_env = ['A=1']");
    let config = world.config();
    assert_eq!(config.bind, [tcp("0.0.0.0", 3), tcp("0.0.0.0", 4)]);
    assert_eq!(config.raw_env, [("A".to_string(), Some("1".to_string()))]);
}

#[test]
fn the_application_on_the_command_line_goes_before_the_files() {
    let world = World::new("run:app").file("rgunicorn.toml", "wsgi_app = 'other:app'");
    let config = world.config();
    assert_eq!(config.application().unwrap(), "run:app");
    assert_eq!(config.proc_name(), "run:app");

    let config = World::new("").file("rgunicorn.toml", "wsgi_app = 'other:app'").config();
    assert_eq!(config.application().unwrap(), "other:app");
    assert_eq!(config.proc_name(), "rgunicorn", "as in gunicorn");

    let config = World::new("run:app -n named").config();
    assert_eq!(config.proc_name(), "named");
}

#[test]
fn arguments_that_name_no_second_application_are_warned_of() {
    let loaded = World::new("run:app more").env("GUNICORN_CMD_ARGS", "other:app").load().unwrap();
    assert_eq!(loaded.config.application().unwrap(), "run:app");
    assert_eq!(
        loaded.warnings,
        [
            "GUNICORN_CMD_ARGS: it can't name the application: other:app is ignored",
            "there is one application: more is ignored"
        ]
    );
}

#[test]
fn the_default_files_are_found_gunicorns_first() {
    let world = World::new("").file("rgunicorn.toml", "workers = 2");
    assert_eq!(world.config().workers, 2);
    let world = world.file("gunicorn.conf.py", "workers = 3").python("workers", Value::Int(3));
    let loaded = world.load().unwrap();
    assert_eq!(loaded.config.workers, 3);
    let warning = loaded.warnings.first().unwrap();
    assert!(warning.contains("gunicorn.conf.py is read, and ") && warning.ends_with("rgunicorn.toml is not"));
}

#[test]
fn a_named_file_goes_before_the_default_ones() {
    let files = |line: &str| {
        World::new(line)
            .file("rgunicorn.toml", "workers = 2")
            .file("a.toml", "workers = 3")
            .file("b.toml", "workers = 4")
    };
    assert_eq!(files("-c a.toml").config().workers, 3);
    assert_eq!(files("-c file:a.toml").config().workers, 3);
    assert_eq!(files("").env("GUNICORN_CMD_ARGS", "-c a.toml").config().workers, 3);
    assert_eq!(files("-c b.toml").env("GUNICORN_CMD_ARGS", "-c a.toml").config().workers, 4);
    let both = files("").env("RGUNICORN_CMD_ARGS", "-c b.toml").env("GUNICORN_CMD_ARGS", "-c a.toml");
    assert_eq!(both.config().workers, 4);
}

#[test]
fn python_files_and_modules_are_evaluated() {
    let world = World::new("-c cfg.py").file("cfg.py", "workers = 3\n").python("workers", Value::Int(3));
    let loaded = world.load().unwrap();
    assert_eq!(loaded.config.workers, 3);
    assert_eq!(loaded.origins["workers"], Origin::File { path: world.path("cfg.py"), line: Some(1) });

    let world = World::new("-c python:settings.production").python("workers", Value::Int(4));
    let loaded = world.load().unwrap();
    assert_eq!(loaded.config.workers, 4);
    assert_eq!(loaded.origins["workers"], Origin::Module("settings.production".into()));
}

#[test]
fn variables_of_a_python_file_are_its_own_unless_nearly_a_setting() {
    let loaded = World::new("-c cfg.py")
        .file("cfg.py", "database = 1\nworker = 2\n")
        .python("database", Value::Int(1))
        .python("worker", Value::Int(2))
        .python("multiprocessing", Value::Other("<module>".into()))
        .load()
        .unwrap();
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert!(
        warning.ends_with("cfg.py:2: worker is no setting and has no effect; did you mean workers?"),
        "{warning}"
    );
}

#[test]
fn a_gunicorn_file_of_the_usual_kind_is_understood() {
    let config = World::new("run:app")
        .file("gunicorn.conf.py", "")
        .python("bind", Value::text("0.0.0.0:8080"))
        .python("workers", Value::Int(5))
        .python("worker_class", Value::text("event"))
        .python("timeout", Value::Int(120))
        .python("keepalive", Value::Int(5))
        .python("max_requests", Value::Int(1000))
        .python("max_requests_jitter", Value::Int(50))
        .python("loglevel", Value::text("DEBUG"))
        .python("accesslog", Value::text("-"))
        .python("errorlog", Value::text("error.log"))
        .python("preload_app", Value::Bool(true))
        .python("pidfile", Value::None)
        .python("user", Value::text("root"))
        .config();
    assert_eq!(config.bind, [tcp("0.0.0.0", 8080)]);
    assert_eq!(config.timeout.as_secs(), 120);
    assert_eq!(config.accesslog, Some(LogTarget::Standard));
    assert_eq!(config.errorlog, LogTarget::File("error.log".into()));
    assert_eq!((config.loglevel, config.preload_app, config.user), (LogLevel::Debug, true, Some(0)));
    assert_eq!(config.pidfile, None);
}

#[test]
fn relative_paths_start_where_the_server_was_started() {
    let world =
        World::new("--chdir app/../app --pythonpath lib,/opt/lib").file("rgunicorn.toml", "workers = 2");
    std::fs::create_dir(world.path("app")).unwrap();
    let config = world.config();
    assert_eq!(config.chdir, world.path("app"));
    assert_eq!(config.pythonpath, [world.path("app/lib"), "/opt/lib".into()]);
    assert_eq!(config.workers, 2, "the file is looked for in the first directory, as gunicorn does");
    assert_eq!(world.config().chdir, config.chdir, "reading again, at a reload, gives the same");
}

#[test]
fn help_and_version_need_no_valid_configuration() {
    for line in ["--help -w x", "-c missing.py --version"] {
        let world = World::new(line);
        assert!(
            matches!(load(&world.sources, &world), Ok(Outcome::Show(text)) if text.contains("rgunicorn")),
            "{line}"
        );
    }
}

#[test]
fn the_settings_reach_those_who_ask_for_them_in_bulk() {
    let config = World::new(
        "--limit-request-line 1 --limit-request-fields 2 --limit-request-field_size 3 --header-map refuse \
         --limit-request-head 5K --strip-header-spaces --request-body-buffer 4 --forwarder-headers x",
    )
    .config();
    let policy = config.http_policy();
    assert_eq!((policy.limits.line, policy.limits.fields, policy.limits.field_size), (1, 2, 3));
    assert_eq!(policy.limits.head, 5120);
    assert_eq!(policy.header_map, crate::http::HeaderMap::Refuse);
    assert!(policy.strip_header_spaces && !policy.permit_obsolete_folding);
    assert_eq!(policy.forwarder_headers, ["X"]);
    assert_eq!(config.spool_limits().memory, 4);

    let default = Config::default();
    assert_eq!(format!("{:?}", default.http_policy()), format!("{:?}", Policy::default()));
    let (limits, usual) = (default.spool_limits(), SpoolLimits::default());
    assert_eq!((limits.memory, limits.scratch), (usual.memory, usual.scratch));
}

#[test]
fn variables_that_a_python_file_sets_or_deletes_come_before_those_that_are_asked_for() {
    let mut world = World::new("-c conf.py -e B=asked").file("conf.py", "");
    world.environment =
        vec![("B".into(), Some("set".into())), ("GONE".into(), None), ("A".into(), Some("set".into()))];
    let pair = |name: &str, value: &str| (name.to_string(), Some(value.to_string()));
    let gone = ("GONE".to_string(), None);
    assert_eq!(world.config().raw_env, [pair("B", "set"), gone, pair("A", "set"), pair("B", "asked")]);
}

/// As of `os.environ.get(...)`: what gunicorn takes.
#[test]
fn none_is_as_if_a_text_was_not_set() {
    let taken = [
        "config",
        "worker_class",
        "access_log_format",
        "logger_class",
        "syslog_addr",
        "syslog_facility",
        "dogstatsd_tags",
        "statsd_prefix",
        "default_proc_name",
        "root_path",
        "statsd_host",
        "pidfile",
        "proc_name",
    ];
    let mut world = World::new("module:app").file("gunicorn.conf.py", "").env("PORT", "9000");
    let expected = print(&world.config());
    for name in taken {
        world = world.python(name, Value::None);
    }
    assert_eq!(print(&world.config()), expected);
    assert!(expected.contains("0.0.0.0:9000"), "{expected}");
    let numbers = World::new("module:app").file("gunicorn.conf.py", "").python("workers", Value::None);
    assert!(numbers.error().0.contains("workers: None is not"), "{:?}", numbers.error());
}

#[test]
fn paths_may_be_any_bytes() {
    let bytes = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let mut world = World::new("module:app");
    let directory = world.path("").join(bytes(b"caf\xe9"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("a.toml"), "workers = 3").unwrap();
    for argument in [
        &b"--chdir=caf\xe9"[..],
        b"--pid",
        b"p\xff",
        b"--error-logfile",
        b"e\xff",
        b"--access-logfile",
        b"a\xff",
        b"--pythonpath",
        b"x,\xff",
        b"--bind",
        b"unix:\xff",
        b"-b",
        b"unix:@\xfe",
        b"--reload-extra-file",
        b"\xff",
        b"--log-config",
        b"l\xff",
        b"-c",
        b"caf\xe9/a.toml",
    ] {
        world.sources.args.push(bytes(argument));
    }
    let config = world.config();
    let path = |name: &[u8]| PathBuf::from(bytes(name));
    assert_eq!((&config.chdir, config.workers), (&directory, 3));
    assert_eq!(config.pidfile, Some(path(b"p\xff")));
    assert_eq!(config.errorlog, LogTarget::File(path(b"e\xff")));
    assert_eq!(config.accesslog, Some(LogTarget::File(path(b"a\xff"))));
    assert_eq!(config.pythonpath, [directory.join("x"), directory.join(bytes(b"\xff"))]);
    assert_eq!(config.bind, [BindAddress::Unix(path(b"\xff")), BindAddress::Abstract(b"\xfe".to_vec())]);
    assert_eq!((config.reload_extra_files, config.logconfig), (vec![path(b"\xff")], Some(path(b"l\xff"))));
    // What is shown reads back; where there is no path, it says why.
    for setting in SETTINGS.iter().filter(|setting| !setting.is_hook()) {
        let (before, mut after) = (setting.get(&world.config()), Config::declared());
        setting.set(&mut after, &before).unwrap();
        assert_eq!(setting.get(&after), before, "{}", setting.name);
    }
    world.sources.args.extend(["--worker-class".into(), bytes(b"\xff")]);
    assert!(world.error().0.ends_with(r#""\xFF" is not UTF-8"#), "{:?}", world.error());
    // As do arguments in the environment.
    let mut world = World::new("module:app");
    world.sources.env.insert("GUNICORN_CMD_ARGS".into(), bytes(b"--pid '/run/\xff a'"));
    assert_eq!(world.config().pidfile, Some(path(b"/run/\xff a")));
}
