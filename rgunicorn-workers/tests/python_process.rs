//! Promises of the Python bridge that need a process of their own: starting, forking, ending, dying.
//!
//! Each test runs this program again, as a child that runs one of the `child_*` functions in its main thread.
#![cfg(feature = "python")]
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests as well")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rgunicorn_core::config::{PythonConfig, PythonLocation, RawEntry, Value};
use rgunicorn_workers::python::ending;
use rgunicorn_workers::python::interpreter::{self, Startup};
use rgunicorn_workers::python::{Environment, PythonFiles};

/// The variable that names the part that a child plays.
const PART: &str = "RGUNICORN_TEST_PART";

/// Runs a part in a child; what it printed.
fn play(part: &str, change: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_part_of_a_child", "--nocapture", "--test-threads=1"]).env(PART, part);
    if let Some(environment) = test_environment() {
        command.env("VIRTUAL_ENV", environment);
    }
    change(&mut command);
    command.output().unwrap()
}

/// The virtual environment that `tests/run` makes, of the Python that we were built with; without it, the `python3` on
/// the path has to be that.
fn test_environment() -> Option<PathBuf> {
    std::env::var_os("RGUNICORN_TEST_VENV").map(PathBuf::from)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Not a test of its own: what [`play`] runs.
#[test]
fn the_part_of_a_child() {
    match std::env::var(PART).as_deref() {
        Ok("show") => child_shows_itself(),
        Ok("abort") => child_is_aborted(),
        Ok("end") => child_ends(Duration::from_secs(20)),
        Ok("hang") => child_ends(Duration::from_millis(200)),
        Ok("fork") => child_forks(),
        Ok("config") => child_reads_config(),
        Ok("wrong version") => child_refuses(),
        _ => {}
    }
}

fn start() {
    let argv = ["gunicorn", "-X", "utf8", "run:app"].map(Into::into).to_vec();
    let startup = Startup { argv, path: vec![std::env::temp_dir()] };
    interpreter::start(Environment::find().as_ref(), &startup).unwrap();
}

fn run(code: &str) {
    let code = std::ffi::CString::new(code).unwrap();
    Python::attach(|py| py.run(&code, None, None).inspect_err(|error| error.print(py)).unwrap());
}

/// A new virtual environment of the Python that we were built with.
fn venv(name: &str) -> PathBuf {
    let path = scratch(name);
    let made = test_environment().map(|environment| environment.join("bin/python3"));
    let python = made.unwrap_or_else(|| Environment::find().unwrap().executable);
    let made = Command::new(python).args(["-m", "venv", "--without-pip"]).arg(&path).status().unwrap();
    assert!(made.success());
    path
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("rgunicorn-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn child_shows_itself() {
    start();
    run("import sys, threading, signal, site\n\
         print('executable', sys.executable)\nprint('prefix', sys.prefix)\nprint('argv', sys.argv)\n\
         print('main', threading.current_thread() is threading.main_thread())\n\
         print('path', sys.path[0])\nprint('sigint', signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n\
         print('packages', [p for p in sys.path if p.startswith(sys.prefix) and p.endswith('site-packages')])\n\
         print('utf8', sys.flags.utf8_mode, 'dontwrite', sys.flags.dont_write_bytecode)\n\
         sys.stdout.flush()");
}

#[test]
fn the_active_virtual_environment_is_the_interpreters_own() {
    let venv = venv("venv");
    let output = play("show", |command| {
        command.env("VIRTUAL_ENV", &venv).env("PYTHONUTF8", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    });
    let text = text(&output);
    let has = |line: String| assert!(text.contains(&line), "{line}\n--\n{text}");
    has(format!("executable {}/bin/python3\n", venv.display()));
    has(format!("prefix {}\n", venv.display()));
    has("argv ['gunicorn', '-X', 'utf8', 'run:app']".into());
    has("main True".into());
    has(format!("path {}\n", std::env::temp_dir().display()));
    has("sigint True".into());
    has(format!("packages ['{}/lib/python", venv.display()));
    has("utf8 1 dontwrite 1".into());
    fs::remove_dir_all(venv).unwrap();
}

#[test]
fn without_any_python_on_the_path_the_one_it_was_built_for_runs() {
    let output = play("show", |command| {
        command.env_remove("VIRTUAL_ENV").env("PATH", "/nowhere");
    });
    assert!(text(&output).contains("main True"), "{}", text(&output));
}

fn child_refuses() {
    let environment =
        Environment { executable: "/opt/old/bin/python3".into(), version: (3, 1), activated: true };
    let error = interpreter::start(Some(&environment), &Startup::default()).unwrap_err();
    println!("refused: {error}");
    assert!(!interpreter::is_running());
}

#[test]
fn an_environment_of_another_version_is_refused_before_the_start() {
    let output = play("wrong version", |command| {
        command.env_remove("PYTHONHOME");
    });
    assert!(
        text(&output).contains("refused: the active virtual environment /opt/old has Python 3.1"),
        "{}",
        text(&output)
    );
}

fn child_is_aborted() {
    use rgunicorn_core::sys::signals::{SignalPipe, catch_abort};
    let _signals = SignalPipe::install(&[], &[]).unwrap();
    catch_abort().unwrap();
    start();
    Python::attach(|py| interpreter::dump_on_abort(py, 2)).unwrap();
    run("import os, signal, threading, time\n\
         threading.Thread(target=lambda: time.sleep(60), daemon=True, name='other').start()\n\
         def hangs():\n    os.kill(os.getpid(), signal.SIGABRT)\n    time.sleep(30)\nhangs()");
}

#[test]
fn an_aborted_process_shows_where_its_threads_were() {
    let output = play("abort", |_| {});
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("in hangs") && text.contains("in <lambda>"), "{text}");
}

fn child_ends(limit: Duration) {
    start();
    run("import atexit, threading, time, sys, os\n\
         from concurrent.futures import ThreadPoolExecutor\n\
         atexit.register(lambda: print('atexit', end=' '))\n\
         threading.Thread(target=lambda: (time.sleep(0.3), print('thread', end=' '))).start()\n\
         ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.3), print('pool', end=' ')))\n\
         def forever():\n    while True: time.sleep(0.001)\n\
         [threading.Thread(target=forever, daemon=True).start() for _ in range(4)]\n\
         if os.environ['RGUNICORN_TEST_PART'] == 'hang': threading.Thread(target=forever).start()\n\
         print('running', end=' ')");
    ending::end(limit, 0, || {});
    std::process::exit(7);
}

#[test]
fn an_ending_process_waits_for_threads_runs_exit_handlers_and_flushes() {
    let output = play("end", |_| {});
    let text = text(&output);
    assert_eq!(output.status.code(), Some(7), "{text}");
    for word in ["running", "thread", "pool", "atexit"] {
        assert!(text.contains(word), "{word}\n--\n{text}");
    }
    assert!(text.find("atexit") > text.find("thread"), "{text}");
}

#[test]
fn a_thread_that_never_ends_does_not_keep_the_process_alive() {
    let output = play("hang", |_| {});
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

fn child_forks() {
    start();
    run("import os\nos.register_at_fork(before=lambda: os.write(1, b'before\\n'),\n\
         \x20 after_in_parent=lambda: os.write(1, b'parent\\n'), after_in_child=lambda: os.write(1, b'child\\n'))");
    interpreter::release();
    interpreter::before_fork();
    // SAFETY: this process has no thread but those of the test harness, which the child does not wait for.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            interpreter::after_fork_in_child();
            run("import threading\nassert threading.current_thread() is threading.main_thread()\n\
                 t = threading.Thread(target=lambda: print('thread in child', flush=True))\nt.start(); t.join()");
            ending::end(Duration::from_secs(20), 0, || {});
            std::process::exit(0);
        }
        nix::unistd::ForkResult::Parent { child } => {
            interpreter::after_fork_in_parent();
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            println!("{status:?}");
            interpreter::hold();
            run("print('parent lives', flush=True)");
        }
    }
}

#[test]
fn an_interpreter_lives_through_a_fork_on_both_sides() {
    let text = text(&play("fork", |_| {}));
    for part in ["before", "parent\n", "child\n", "thread in child", "Exited(", ", 0)", "parent lives"] {
        assert!(text.contains(part), "{part}\n--\n{text}");
    }
}

fn child_reads_config() {
    if std::env::var_os("RGUNICORN_TEST_INHERIT").is_some() {
        start();
        interpreter::release();
    }
    let directory = PathBuf::from(std::env::var("RGUNICORN_TEST_DIRECTORY").unwrap());
    let named = std::env::var("RGUNICORN_TEST_LOCATION").unwrap();
    let location = match named.split_once(':') {
        Some((_, module)) => PythonLocation::Module(module.into()),
        None => PythonLocation::File(directory.join(named)),
    };
    let inherited = interpreter::is_running();
    match PythonFiles.evaluate(&location, &directory) {
        Ok(evaluation) => println!("OUTCOME {evaluation:?}"),
        Err(error) => println!("ERROR {error}"),
    }
    assert_eq!(interpreter::is_running(), inherited, "the interpreter stays in the child");
}

/// Evaluates a file of this content, named `name`; what was printed.
fn configured(name: &str, content: &str, location: &str) -> String {
    let directory = scratch(&format!("config-{}-{}", name.replace('.', "-"), content.len()));
    fs::write(directory.join(name), content).unwrap();
    let mut outputs = [false, true].map(|inherit| {
        let output = play("config", |command| {
            command.env("RGUNICORN_TEST_LOCATION", location).env("RGUNICORN_TEST_DIRECTORY", &directory);
            command.env("DELETED", "1").env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONUNBUFFERED");
            if inherit {
                command.env("RGUNICORN_TEST_INHERIT", "1");
            }
        });
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    });
    fs::remove_dir_all(directory).unwrap();
    let outcome = |text: &String| {
        text.lines().find(|line| line.contains("OUTCOME") || line.contains("ERROR")).map(str::to_string)
    };
    assert_eq!(outcome(&outputs[0]), outcome(&outputs[1]), "with and without an interpreter to inherit");
    std::mem::take(&mut outputs[0])
}

#[test]
fn a_config_file_is_a_program_and_its_values_arrive() {
    let content = "import multiprocessing, os, math\nfrom pathlib import Path\n\
        print('printed by the file')\n\
        workers = min(multiprocessing.cpu_count(), 1) * 3\nbind = ['127.0.0.1:%d' % p for p in (1, 2)]\n\
        timeout = 1.5\npreload_app = True\nuser = None\nchdir = Path('/srv')\nbig = 1 << 80\n\
        secure_scheme_headers = {'X-Proto': 'https', 1: (2,)}\n\
        def on_starting(server): pass\nclass Worker: pass\nlogger_class = Worker\nfind = multiprocessing\n\
        os.environ['ADDED'] = 'caf\u{e9}'\ndel os.environ['DELETED']\nsurrogate = 'x\\udc80'\nself = []\nself.append(self)\n";
    let text = configured("gunicorn.conf.py", content, "gunicorn.conf.py");
    assert!(text.contains("printed by the file"), "{text}");
    let has = |name: &str, value: Value| {
        let expected = format!("RawEntry {{ name: {name:?}, value: {value:?} }}");
        assert!(text.contains(&expected), "{expected}\n--\n{text}");
    };
    let string = |text: &str| Value::Text(text.into());
    has("workers", Value::Int(3));
    has("bind", Value::List(vec![string("127.0.0.1:1"), string("127.0.0.1:2")]));
    has("timeout", Value::Float(1.5));
    has("preload_app", Value::Bool(true));
    has("user", Value::None);
    has("chdir", string("/srv"));
    has("big", Value::Other("1208925819614629174706176".into()));
    has(
        "secure_scheme_headers",
        Value::Map(vec![("X-Proto".into(), string("https")), ("1".into(), Value::List(vec![Value::Int(2)]))]),
    );
    has("on_starting", Value::Callable("__config__.on_starting".into()));
    has("logger_class", Value::Class("__config__.Worker".into()));
    has("surrogate", Value::Raw(OsString::from_vec(b"x\x80".to_vec())));
    assert!(
        text.contains("(\"ADDED\", Some(\"caf\u{e9}\"))") && text.contains("(\"DELETED\", None)"),
        "{text}"
    );
    assert!(
        !text.contains("name: \"multiprocessing\"") && !text.contains("name: \"find\""),
        "modules are left out: {text}"
    );
}

#[test]
fn a_config_may_be_a_module_or_a_file_without_extension() {
    let entry = |value| format!("{:?}", RawEntry { name: "a".into(), value: Value::Int(value) });
    assert!(configured("conf_module.py", "a = 1", "python:conf_module").contains(&entry(1)));
    assert!(configured("gunicornrc", "a = 2", "gunicornrc").contains(&entry(2)));
    // A process that it leaves behind keeps nobody waiting.
    let forks = "import os, time\na = 3\nif os.fork() == 0:\n    os.closerange(0, 3)\n    time.sleep(5)\n    os._exit(0)";
    let started = Instant::now();
    assert!(configured("forks.py", forks, "forks.py").contains(&entry(3)));
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_broken_config_file_is_an_error_with_its_traceback() {
    let text = configured("bad.py", "def f():\n    return 1 / 0\nf()\n", "bad.py");
    assert!(text.contains("ERROR configuration file /"), "{text}");
    let beginning = "bad.py: it can't be executed\nTraceback (most recent call last):\n  File \"/";
    assert!(text.contains(beginning), "{text}");
    assert!(text.contains("in f\n    return 1 / 0"), "{text}");
    assert!(text.contains("\nZeroDivisionError: division by zero\n"), "{text}");
    assert!(!text.contains("<rgunicorn>") && !text.contains("<frozen"), "{text}");
    assert!(configured("syntax.py", "a = = 1", "syntax.py").contains("SyntaxError"));
    let text = configured("exits.py", "import sys; sys.exit(3)", "exits.py");
    assert!(text.contains("exits.py: it called sys.exit(3)"), "{text}");
    let text = configured("dies.py", "import os; os.kill(os.getpid(), 9)", "dies.py");
    assert!(text.contains("dies.py: the process that executes it was killed by SIGKILL"), "{text}");
    assert!(configured("mod.py", "", "python:no_such").contains("No module named 'no_such'"));
}
