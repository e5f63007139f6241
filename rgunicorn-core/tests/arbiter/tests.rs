//! What the arbiter promises.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::server::{Server, alive, children_of, read_answer};

macro_rules! all {
    ($($name:ident),* $(,)?) => {
        pub const ALL: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

all![
    says_what_operators_expect,
    term_lets_requests_finish,
    a_quick_stop_overtakes_a_graceful_one,
    int_and_quit_do_not_wait,
    a_worker_that_will_not_leave_is_killed,
    a_killed_worker_is_replaced,
    a_worker_out_of_memory_is_said_to_be,
    a_fork_that_fails_is_tried_again,
    a_recycled_worker_is_replaced_at_once,
    a_worker_that_asks_for_relief_serves_until_another_does,
    workers_that_ask_for_relief_together_go_one_by_one,
    a_worker_that_grows_too_large_is_replaced,
    old_workers_go_as_new_ones_come,
    a_sleep_of_the_whole_machine_kills_nobody,
    term_serves_on_for_a_while_if_asked_to,
    the_limit_of_open_files_is_raised,
    a_worker_that_hangs_is_killed,
    a_worker_that_hangs_at_birth_is_killed,
    panics_and_failures_end_one_worker_only,
    ttin_and_ttou_change_the_number,
    usr1_reopens_the_log,
    hup_starts_a_new_generation_without_a_gap,
    hup_reads_the_settings_again,
    hup_with_a_broken_class_keeps_serving,
    hup_with_a_bad_address_keeps_serving,
    a_second_hup_waits_for_the_first,
    a_reload_serves_every_hup_before_it,
    first_workers_that_can_not_boot_stop_the_arbiter,
    later_workers_that_can_not_boot_are_tried_again,
    dying_at_birth_is_slowed_down,
    workers_do_not_outlive_the_arbiter,
    an_address_in_use_is_said_and_given_up,
    a_log_that_can_not_be_written_is_an_error,
    pid_and_socket_files_come_and_go,
    a_daemon_leaves_its_parent,
    titles_say_who_is_who,
    captured_output_follows_the_log,
    workers_become_another_user,
    reuse_port_gives_each_worker_a_socket,
    the_arbiter_stays_small,
    orphans_of_an_application_get_their_own_signals,
];

const LONG: &str = "timeout=60\ngraceful=30";

fn says_what_operators_expect() {
    let mut server = Server::serving(LONG, 1);
    let worker = server.children()[0];
    server.signal(Signal::SIGTERM);
    assert_eq!(server.until_exit(), 0);
    let pid = server.pid();
    let socket = server.path("socket");
    let expected = [
        format!("[{pid}] [INFO] Starting rgunicorn {}", rgunicorn_core::VERSION),
        format!("[{pid}] [INFO] Listening at: unix:{} ({pid})", socket.display()),
        format!("[{pid}] [INFO] Using worker: tiny"),
        format!("[{worker}] [INFO] Booting worker with pid: {worker}"),
        format!("[{pid}] [INFO] Handling signal: term"),
        format!("[{worker}] [INFO] Worker exiting (pid: {worker})"),
        format!("[{pid}] [INFO] Shutting down: Master"),
    ];
    let log = server.log();
    let mut rest = log.as_str();
    for line in &expected {
        let at = rest.find(line.as_str()).unwrap_or_else(|| panic!("{line:?}, in this order, in\n{log}"));
        rest = &rest[at..];
    }
    // What belongs to the line before it is indented.
    for line in log.lines().filter(|line| !line.starts_with("  ")) {
        let stamp = line.strip_prefix('[').and_then(|line| line.split_once("] [")).map(|(stamp, _)| stamp);
        assert_eq!(stamp.map(str::len), Some("2026-11-23 12:00:00 +0000".len()), "{line}");
    }
}

fn term_lets_requests_finish() {
    let mut server = Server::serving(LONG, 2);
    let slow = server.ask_later("sleep 1");
    std::thread::sleep(Duration::from_millis(300));
    server.signal(Signal::SIGTERM);
    server.until("it stops listening", || UnixStream::connect(server.path("socket")).is_err());
    assert!(read_answer(slow).is_some());
    assert_eq!(server.until_exit(), 0);
    assert!(!server.path("socket").exists());
}

fn a_quick_stop_overtakes_a_graceful_one() {
    let mut server = Server::serving(LONG, 1);
    let _slow = server.ask_later("sleep 60");
    std::thread::sleep(Duration::from_millis(300));
    server.signal(Signal::SIGTERM);
    server.until_logged("Handling signal: term");
    let start = Instant::now();
    server.signal(Signal::SIGINT);
    assert_eq!(server.until_exit(), 0);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(server.log().contains("Quick shutdown requested"));
}

fn int_and_quit_do_not_wait() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let mut server = Server::serving(LONG, 2);
        let start = Instant::now();
        server.signal(signal);
        assert_eq!(server.until_exit(), 0);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

fn a_worker_that_will_not_leave_is_killed() {
    let mut server = Server::serving("timeout=60\ngraceful=0.5", 1);
    let _stuck = server.ask_later("sleep 60");
    std::thread::sleep(Duration::from_millis(300));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.until_exit(), 0);
    assert!(server.log().contains("was sent SIGKILL, as it did not stop in time"), "{}", server.log());
}

fn a_killed_worker_is_replaced() {
    let server = Server::serving(LONG, 2);
    let victim = server.children()[0];
    kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
    server.until_logged(&format!("[ERROR] Worker (pid:{victim}) was sent SIGKILL! "));
    assert!(!server.until_serving(1, 2).contains(&victim));
}

fn a_worker_out_of_memory_is_said_to_be() {
    let root = std::path::Path::new("/sys/fs/cgroup");
    let (base, limit) = match root.join("memory/cgroup.procs").exists() {
        true => (root.join("memory"), "memory.limit_in_bytes"),
        false => (root.to_owned(), "memory.max"),
    };
    let group = base.join(format!("rgunicorn-test-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() || std::fs::write(group.join(limit), "67108864").is_err() {
        let _ = std::fs::remove_dir(&group);
        eprintln!("a control group with a limit of memory can't be made here: not tested");
        return;
    }
    let _ = std::fs::write(group.join("memory.swap.max"), "0");
    let server = Server::start_by(&group_shell(&group), "workers=1\ntimeout=60");
    let victim = server.until_serving(1, 1)[0];
    let _lost = server.ask("hoard 200000000");
    server.until_logged(&format!(
        "[ERROR] Worker (pid:{victim}) was sent SIGKILL! Out of memory: the kernel killed it"
    ));
    let other = server.until_serving(1, 1)[0];
    kill(Pid::from_raw(other), Signal::SIGKILL).unwrap();
    server.until_logged(&format!("[ERROR] Worker (pid:{other}) was sent SIGKILL! By somebody"));
    server.until_serving(1, 1);
    drop(server);
    let start = Instant::now();
    while std::fs::remove_dir(&group).is_err() && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command that starts what follows it in a control group.
fn group_shell(group: &std::path::Path) -> Vec<String> {
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.display());
    ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

fn a_fork_that_fails_is_tried_again() {
    // Root may always fork.
    let as_nobody =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).to_vec();
    let wrap = if nix::unistd::geteuid().is_root() { as_nobody } else { Vec::new() };
    let server = Server::start_by(&wrap, "workers=2\ntimeout=60");
    let before = server.until_serving(1, 2);
    let prlimit = "prlimit".to_owned();
    let limit = |limit: &str| {
        let arguments = ["--pid".to_owned(), server.pid().to_string(), format!("--nproc={limit}:")];
        let words: Vec<&String> = wrap.iter().chain([&prlimit]).chain(&arguments).collect();
        assert!(std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success());
    };
    limit("0");
    kill(Pid::from_raw(before[0]), Signal::SIGKILL).unwrap();
    server.until_logged("Can't start a worker: Resource temporarily unavailable");
    assert!(server.ask("hello").is_some(), "the other one serves");
    // No more can a reload, which waits for better times as well.
    server.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.log().matches("Can't start a worker").count() < 12, "{}", server.log());
    assert!(server.ask("hello").is_some(), "the other one serves");
    limit("10000");
    server.until_serving(2, 2);
}

fn a_recycled_worker_is_replaced_at_once() {
    let server = Server::serving(LONG, 1);
    let before = server.children();
    server.ask("recycle");
    assert_ne!(server.until_serving(1, 1), before);
    assert!(!server.log().contains("[ERROR]"), "{}", server.log());
}

fn a_worker_that_asks_for_relief_serves_until_another_does() {
    let server = Server::serving("behaviour=takes its time", 1);
    let before = server.children()[0];
    assert_eq!(server.ask("relieve").map(|answer| answer.pid), Some(before));
    let mut successor = before;
    while successor == before {
        successor = server.ask("hello").expect("there is always one that serves").pid;
    }
    server.until_logged(&format!("Worker (pid:{before}) makes room: it has answered its max_requests"));
    server.until_serving(1, 1);
    let log = server.log();
    assert!(log.find(&format!("(pid:{successor}) is ready, after")) < log.find("makes room"), "{log}");
    assert!(!log.contains("[ERROR]"), "{log}");
}

fn workers_that_ask_for_relief_together_go_one_by_one() {
    let server = Server::serving("behaviour=takes its time", 3);
    let before = server.children();
    let mut asked = std::collections::BTreeSet::new();
    while asked.len() < 3 {
        asked.insert(server.ask("relieve").unwrap().pid);
    }
    let mut most = 0;
    server.until("three others", || {
        let now = server.children();
        most = most.max(now.len());
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    });
    // One that leaves may still be there when the next one's successor is born.
    assert!(most <= 5, "{most} at once");
    let log = server.log();
    let order: Vec<_> = log
        .lines()
        .filter_map(|line| ["is ready, after", "makes room"].into_iter().find(|what| line.contains(what)))
        .skip(3)
        .collect();
    assert_eq!(order, ["is ready, after", "makes room"].repeat(3), "{log}");
}

fn a_worker_that_grows_too_large_is_replaced() {
    let server = Server::serving("max_rss=67108864", 1);
    let before = server.children()[0];
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.children(), [before]);
    server.ask("hoard 80000000").unwrap();
    server.until_logged(&format!("Worker (pid:{before}) makes room: it has "));
    assert!(
        server.log().contains("MiB of resident memory, and worker_max_rss allows 64 MiB"),
        "{}",
        server.log()
    );
    assert_ne!(server.until_serving(1, 1), [before]);
}

fn old_workers_go_as_new_ones_come() {
    let server = Server::serving("behaviour=takes its time", 3);
    let before = server.children();
    server.signal(Signal::SIGHUP);
    server.until("new workers alone", || server.children().iter().all(|pid| !before.contains(pid)));
    let log = server.log();
    let (mut serving, mut least) = (0, usize::MAX);
    for line in log.lines() {
        serving += usize::from(line.contains("is ready, after"));
        serving -= usize::from(line.contains("makes room: a new generation serves"));
        if line.contains("Hang up") || least < usize::MAX {
            least = least.min(serving);
        }
    }
    assert_eq!((serving, least), (3, 3), "{log}");
}

fn a_sleep_of_the_whole_machine_kills_nobody() {
    let server = Server::serving("timeout=1", 2);
    let before = server.until_serving(1, 2);
    let all = || [server.pid()].into_iter().chain(before.iter().copied()).map(Pid::from_raw);
    all().for_each(|pid| kill(pid, Signal::SIGSTOP).unwrap());
    std::thread::sleep(Duration::from_millis(3500));
    // The arbiter first, as it would be the one to find the others silent.
    all().for_each(|pid| kill(pid, Signal::SIGCONT).unwrap());
    server.until_logged("[WARNING] The arbiter did not run for ");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.until_serving(1, 2), before);
    assert!(!server.log().contains("TIMEOUT"), "{}", server.log());
}

fn term_serves_on_for_a_while_if_asked_to() {
    let mut server = Server::serving("stop_delay=1.5\ngraceful=30", 1);
    let start = Instant::now();
    server.signal(Signal::SIGTERM);
    server.until_logged("Serving on for 1.5s before stopping (stop_delay)");
    while start.elapsed() < Duration::from_millis(1200) {
        assert!(server.ask("hello").is_some(), "{}", server.log());
    }
    assert_eq!(server.until_exit(), 0);
    assert!(start.elapsed() >= Duration::from_millis(1500));
    // A second one doesn't wait, nor does a quick stop.
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::serving("stop_delay=60", 1);
        server.signal(Signal::SIGTERM);
        server.until_logged("Serving on for 60s");
        server.signal(signal);
        assert_eq!(server.until_exit(), 0);
    }
}

fn the_limit_of_open_files_is_raised() {
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let server = Server::serving("", 1);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.children()[0])).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers, [most, most], "{line}");
}

fn a_worker_that_hangs_is_killed() {
    let server = Server::serving("timeout=1\ngraceful=30", 2);
    let before = server.children();
    let start = Instant::now();
    let _hung = server.ask_later("sleep 60");
    server.until_logged("[CRITICAL] WORKER TIMEOUT (pid:");
    assert!(start.elapsed() >= Duration::from_millis(800));
    let after = server.until_serving(1, 2);
    assert_eq!(before.iter().filter(|pid| after.contains(pid)).count(), 1);
    // A SIGABRT has ended it; its successor may serve before that is in the log.
    server.until_logged("exited with code 1.");
}

fn a_worker_that_hangs_at_birth_is_killed() {
    let server = Server::start("workers=1\ntimeout=0.5\nbehaviour=hangs at birth");
    server.until_logged("[CRITICAL] WORKER TIMEOUT (pid:");
    server.until("another is tried", || server.log().matches("Booting worker").count() >= 2);
}

fn panics_and_failures_end_one_worker_only() {
    let server = Server::serving(LONG, 2);
    server.ask("panic on purpose");
    server.until_logged("panicked: on purpose");
    server.until_logged("exited with code 255.");
    server.until_serving(1, 2);
    server.ask("fail for real");
    server.until_logged("Exception in worker process\nfor real");
    server.until_serving(1, 2);
    server.ask("exit 4");
    server.until_logged("exited with code 4.");
    server.until_serving(1, 2);
}

fn ttin_and_ttou_change_the_number() {
    let server = Server::serving(LONG, 1);
    server.signal(Signal::SIGTTIN);
    server.until_logged("Handling signal: ttin");
    server.signal(Signal::SIGTTIN);
    let three = server.until_serving(1, 3);
    server.signal(Signal::SIGTTOU);
    let two = server.until_serving(1, 2);
    assert!(!two.contains(&three[0]), "the oldest goes");
    server.signal(Signal::SIGTTOU);
    server.until_serving(1, 1);
    server.signal(Signal::SIGTTOU);
    std::thread::sleep(Duration::from_millis(300));
    server.until_serving(1, 1);
}

fn usr1_reopens_the_log() {
    let server = Server::serving(LONG, 2);
    std::fs::rename(server.path("log"), server.path("log.1")).unwrap();
    server.signal(Signal::SIGUSR1);
    server.until("the log is there again", || server.path("log").exists());
    std::thread::sleep(Duration::from_millis(300));
    let victim = server.children()[0];
    kill(Pid::from_raw(victim), Signal::SIGTERM).unwrap();
    server.until_logged(&format!("[{victim}] [INFO] Worker exiting"));
    assert!(!std::fs::read_to_string(server.path("log.1")).unwrap().contains("Worker exiting"));
}

fn hup_starts_a_new_generation_without_a_gap() {
    let server = Server::serving(LONG, 2);
    let slow = server.ask_later("sleep 1");
    std::thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGHUP);
    let mut generation = 1;
    while generation == 1 {
        generation = server.ask("hello").expect("every request is answered").generation;
    }
    assert_eq!(read_answer(slow).map(|answer| answer.generation), Some(1), "the old ones finish");
    server.until_serving(2, 2);
    let log = server.log();
    assert!(log.contains("[INFO] Handling signal: hup") && log.contains("[INFO] Hang up: Master"), "{log}");
    assert!(!log.contains("[ERROR]") && !log.contains("[WARNING]"), "{log}");
}

fn hup_reads_the_settings_again() {
    let server = Server::serving("env=old\npidfile=old.pid", 1);
    assert_eq!(server.ask("hello").unwrap().tiny, "old");
    let socket = server.path("other");
    server.change("workers=3\nenv=new\npidfile=new.pid\nunix=other");
    server.signal(Signal::SIGHUP);
    server.until_logged(&format!("Listening at: unix:{}", socket.display()));
    server.until("three workers", || server.children().len() == 3);
    assert!(!server.path("socket").exists() && !server.path("old.pid").exists());
    assert_eq!(std::fs::read_to_string(server.path("new.pid")).unwrap(), format!("{}\n", server.pid()));
    std::fs::rename(&socket, server.path("socket")).unwrap();
    assert_eq!(server.ask("hello").unwrap().tiny, "new");
}

fn hup_with_a_broken_class_keeps_serving() {
    for (behaviour, why) in [
        ("fails to load", "App failed to load."),
        ("fails to boot", "Worker failed to boot."),
        ("dies at birth", "Worker ended before it had booted."),
    ] {
        let server = Server::serving("env=old\ngraceful=30", 2);
        let before = server.until_serving(1, 2);
        server.change(&format!("workers=2\nenv=new\nbehaviour={behaviour}"));
        server.signal(Signal::SIGHUP);
        server.until_logged("[ERROR] reload failed, generation 1 goes on: ");
        assert!(server.log().contains(why), "{}", server.log());
        assert_eq!(server.until_serving(1, 2), before);
        assert_eq!(server.ask("recycle"), None);
        server.until_serving(1, 2);
        assert_eq!(server.ask("hello").unwrap().tiny, "old", "the environment is the old one again");
        server.change("workers=1\nenv=mended");
        server.signal(Signal::SIGHUP);
        server.until_serving(3, 1);
        assert_eq!(server.ask("hello").unwrap().tiny, "mended");
    }
}

fn hup_with_a_bad_address_keeps_serving() {
    let server = Server::serving("", 1);
    // TEST-NET-1 is nobody's (RFC 5737).
    server.change("workers=1\ntcp=192.0.2.1:1");
    server.signal(Signal::SIGHUP);
    server.until_logged("reload failed, generation 1 goes on: Can't listen at 192.0.2.1:1: ");
    server.until_serving(1, 1);
    server.change("workers=1\nlog=/nowhere/log");
    server.signal(Signal::SIGHUP);
    server.until_logged("errorlog \"/nowhere/log\" can't be written");
    server.until_serving(1, 1);
}

fn a_second_hup_waits_for_the_first() {
    let server = Server::serving("", 1);
    server.change("workers=2\ntimeout=2\nbehaviour=hangs at birth");
    server.signal(Signal::SIGHUP);
    server.until("the next generation is being born", || server.children().len() == 3);
    server.until_logged("Hang up: Master");
    server.change("workers=2");
    server.signal(Signal::SIGHUP);
    server.until_logged("Generation 2 is starting, another reload follows");
    // The first fails in its time, the other one gets through.
    server.until_serving(3, 2);
}

fn a_reload_serves_every_hup_before_it() {
    let server = Server::serving(LONG, 1);
    server.change(&format!("workers=1\nbehaviour=takes its time\n{LONG}"));
    server.signal(Signal::SIGHUP);
    server.until("the next generation is being born", || server.children().len() == 2);
    server.signal(Signal::SIGHUP);
    server.until_logged("Generation 2 is starting, another reload follows");
    // While the arbiter looks away, the generation boots and a third HUP comes. It begins a reload that is the second's, too.
    server.signal(Signal::SIGSTOP);
    server.until("generation 2", || server.ask("hello").is_some_and(|answer| answer.generation == 2));
    server.signal(Signal::SIGHUP);
    server.signal(Signal::SIGCONT);
    server.until_serving(3, 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.log().matches("Booting worker").count(), 3, "{}", server.log());
}

fn first_workers_that_can_not_boot_stop_the_arbiter() {
    for (behaviour, status, why, reason) in [
        ("fails to boot", 3, "out of luck", "Worker failed to boot."),
        ("fails to load", 4, "no module named 'tiny'", "App failed to load."),
    ] {
        let mut server = Server::start(&format!("workers=2\nbehaviour={behaviour}"));
        assert_eq!(server.until_exit(), status);
        let log = server.log();
        assert!(log.contains(&format!("[ERROR] Exception in worker process\n{why}")), "{log}");
        assert!(log.contains(&format!("exited with code {status}.")), "{log}");
        assert!(log.contains("[ERROR] Shutting down: Master"), "{log}");
        assert!(log.contains(&format!("[ERROR] Reason: {reason}")), "{log}");
    }
}

fn later_workers_that_can_not_boot_are_tried_again() {
    let server = Server::start("workers=1\nbehaviour=fails to load later");
    server.until_serving(1, 1);
    server.ask("recycle");
    server.until("it is tried again", || server.log().matches("gone by now").count() >= 3);
    assert!(!server.log().contains("Shutting down"));
}

fn dying_at_birth_is_slowed_down() {
    let server = Server::start("workers=2\nbehaviour=dies at birth");
    std::thread::sleep(Duration::from_millis(1200));
    // At 0, 0.1, 0.3, 0.7 and 1.5 seconds, two each.
    let births = server.log().matches("Booting worker").count();
    assert!((4..=8).contains(&births), "{births} births\n{}", server.log());
}

fn workers_do_not_outlive_the_arbiter() {
    let server = Server::serving(LONG, 2);
    let workers = server.children();
    let slow = server.ask_later("sleep 0.5");
    std::thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGKILL);
    assert!(read_answer(slow).is_some(), "they finish what they hold");
    server.until("the workers are gone", || !workers.iter().any(|pid| alive(*pid)));
    assert!(server.log().contains("The arbiter is gone, stopping"));

    let server = Server::start("workers=1\ntimeout=0\nbehaviour=hangs at birth");
    server.until_logged("Booting worker with pid");
    std::thread::sleep(Duration::from_millis(200));
    let workers = server.children();
    server.signal(Signal::SIGKILL);
    server.until("even one that hangs is gone", || !workers.iter().any(|pid| alive(*pid)));
}

fn an_address_in_use_is_said_and_given_up() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut server = Server::start(&format!("tcp={address}"));
    assert_eq!(server.until_exit(), 1);
    let log = server.log();
    assert_eq!(log.matches(&format!("[ERROR] Connection in use: {address}")).count(), 5, "{log}");
    assert!(log.contains(&format!("[ERROR] Can't listen at {address}: ")), "{log}");
}

fn a_log_that_can_not_be_written_is_an_error() {
    let mut server = Server::start("log=/nowhere/at/all/log");
    assert_eq!(server.until_exit(), 1);
}

fn pid_and_socket_files_come_and_go() {
    let mut server = Server::serving("pidfile=pid", 1);
    assert_eq!(std::fs::read_to_string(server.path("pid")).unwrap(), format!("{}\n", server.pid()));
    let mut second = Server::start(&format!("pidfile={}", server.path("pid").display()));
    assert_eq!(second.until_exit(), 1);
    assert!(second.log().contains(&format!("Already running on PID {} ", server.pid())), "{}", second.log());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.until_exit(), 0);
    assert!(!server.path("pid").exists() && !server.path("socket").exists());
}

fn a_daemon_leaves_its_parent() {
    let mut server = Server::start("daemon=yes\npidfile=pid");
    assert_eq!(server.until_exit(), 0);
    server.until("it answers", || server.ask("hello").is_some());
    let pid: i32 = std::fs::read_to_string(server.path("pid")).unwrap().trim().parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().parse().unwrap();
    assert_ne!(session, pid, "not the leader of its session");
    assert_ne!(session, nix::unistd::getsid(None).unwrap().as_raw(), "nor in ours");
    let workers = children_of(pid);
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    server.until("it is gone", || !alive(pid) && !workers.iter().any(|pid| alive(*pid)));
}

fn titles_say_who_is_who() {
    let server = Server::serving("", 1);
    let title = |pid: i32| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    };
    let program = format!("{:?}", Some(std::env::current_exe().unwrap().into_os_string()));
    let seen = server.ask("self RGUNICORN_TEST_SETTINGS").unwrap().tiny;
    assert_eq!(
        seen,
        format!("{program} {:?}", Some(server.path("settings"))),
        "arguments and environment stay"
    );
    let titles = (title(server.pid()), title(server.children()[0]));
    assert!(
        titles.0.starts_with("rgunicorn: arbiter [") && titles.1.starts_with("rgunicorn: worker ["),
        "{titles:?}"
    );
}

fn captured_output_follows_the_log() {
    let server = Server::serving("capture=yes", 1);
    server.ask("print first words");
    server.until_logged("\nfirst words\n");
    std::fs::rename(server.path("log"), server.path("log.1")).unwrap();
    server.signal(Signal::SIGUSR1);
    server.until("the log is there again", || server.path("log").exists());
    std::thread::sleep(Duration::from_millis(300));
    server.ask("print last words");
    server.until_logged("last words\n");
}

/// Only root can; for others there is nothing to test.
fn workers_become_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let server = Server::start("user=12345");
    server.until_serving(1, 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.children()[0])).unwrap();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("Uid:"), "12345\t12345\t12345\t12345");
    assert_eq!(line("Gid:"), "12345\t12345\t12345\t12345");
    assert_eq!(line("Groups:"), "12345");
    use std::os::unix::fs::MetadataExt;
    for name in ["log", "socket"] {
        let metadata = std::fs::metadata(server.path(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 12345), "{name}");
    }
}

fn reuse_port_gives_each_worker_a_socket() {
    let server = Server::start("workers=2\nreuse_port=yes\ntcp=127.0.0.1:0");
    server.until("two workers", || server.log().matches("Booting worker").count() == 2);
    let log = server.log();
    let port: u16 =
        log.split_once("http://127.0.0.1:").unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
    let sockets = || {
        let tcp = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // Local address 127.0.0.1:port, state LISTEN.
        let local = format!(" 0100007F:{port:04X} 00000000:0000 0A ");
        tcp.lines().filter(|line| line.contains(&local)).count()
    };
    server.until("two listening sockets", || sockets() == 2);
}

fn the_arbiter_stays_small() {
    let server = Server::serving("", 4);
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", server.pid())).unwrap();
    let private: u64 = rollup
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    assert!(private < 3000, "{private} kB");
}

/// `multiprocessing` and the like: a process that a worker forks inherits its handlers.
fn orphans_of_an_application_get_their_own_signals() {
    let server = Server::serving(LONG, 1);
    let worker = server.children()[0];
    let helper: i32 = server.ask("fork").unwrap().tiny.parse().unwrap();
    assert!(alive(helper));
    kill(Pid::from_raw(helper), Signal::SIGTERM).unwrap();
    server.until("the helper is gone", || !alive(helper));
    assert_eq!(server.until_serving(1, 1), [worker], "and the worker isn't");
}
