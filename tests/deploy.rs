//! The files in `examples/deploy` work: nginx and HAProxy with them, reloads under load through both, systemd's opinion
//! of its units, and process 1 of a container.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn_harness::{Client, Server, assert_has, python, repository};

fn shipped(name: &str) -> String {
    std::fs::read_to_string(repository().join("examples/deploy").join(name)).unwrap()
}

/// The text with one part replaced, which must be in it: otherwise what is tested is not what is shipped.
fn replaced(text: &str, part: &str, by: &str) -> String {
    assert!(text.contains(part), "{part} is not in\n{text}");
    text.replace(part, by)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program in front of rgunicorn, stopped when dropped.
struct Proxy {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Proxy {
    /// Starts it and waits until it listens.
    fn start(directory: tempfile::TempDir, port: u16, program: &str, arguments: &[&str]) -> Proxy {
        let log = std::fs::File::create(directory.path().join("output")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} can't be started ({error}): tests/run installs it"));
        let mut proxy = Proxy { child, port, directory };
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let late = start.elapsed() > Duration::from_secs(20);
            let over = late || !matches!(proxy.child.try_wait(), Ok(None));
            assert!(!over, "{program} doesn't listen: {}", proxy.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    fn output(&self) -> String {
        let read = |name| std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        read("output") + &read("error.log")
    }

    fn get(&self, path: &str) -> rgunicorn_harness::Response {
        Client::connect(self.port).get(path)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the proxy's output:\n{}---", self.output());
        }
        // SIGTERM, not SIGKILL: its workers are to end with it.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// nginx with the file that is shipped.
fn nginx(server: &Server) -> Proxy {
    let site = shipped("nginx.conf");
    nginx_with(&replaced(&site, "unix:/run/site/http.sock", &format!("127.0.0.1:{}", server.port())))
}

fn nginx_with(site: &str) -> Proxy {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let here = directory.path().display().to_string();
    std::fs::create_dir(directory.path().join("static")).unwrap();
    std::fs::write(directory.path().join("static/a.css"), "body { color: red }\n").unwrap();
    let site = replaced(site, "listen 80;", &format!("listen 127.0.0.1:{port};"));
    let site = site.replace("/srv/site/static/", &format!("{here}/static/"));
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {here}/{what};\n"))
        .collect();
    // Where the tests run as root, its workers would otherwise have no right to the directory.
    let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
    let main = format!(
        "{user}worker_processes 1;\ndaemon off;\npid {here}/nginx.pid;\nerror_log {here}/error.log info;\n\
         events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    );
    std::fs::write(directory.path().join("nginx.conf"), main).unwrap();
    let file = format!("{here}/nginx.conf");
    Proxy::start(directory, port, "nginx", &["-p", &here, "-c", &file, "-e", &format!("{here}/error.log")])
}

/// HAProxy with the file that is shipped.
fn haproxy(server: &Server) -> Proxy {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let text = replaced(
        &shipped("haproxy.cfg"),
        "127.0.0.1:8000 send",
        &format!("127.0.0.1:{} send", server.port()),
    );
    let text = replaced(&text, "bind :80\n", &format!("bind 127.0.0.1:{port}\n"));
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    Proxy::start(directory, port, "haproxy", &["-f", &file])
}

/// Caddy with the file that is shipped, without a certificate.
fn caddy(server: &Server) -> Proxy {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let here = directory.path().display().to_string();
    std::fs::create_dir(directory.path().join("static")).unwrap();
    std::fs::write(directory.path().join("static/a.css"), "body { color: red }\n").unwrap();
    let text =
        replaced(&shipped("Caddyfile"), "127.0.0.1:8000 {", &format!("127.0.0.1:{} {{", server.port()));
    let text = replaced(&text, "\nsite.example {", &format!("\nhttp://:{port} {{"));
    let text = replaced(&text, "/srv/site/static", &format!("{here}/static"));
    // Others on this machine may have its port for administration.
    let file = directory.path().join("Caddyfile");
    std::fs::write(
        &file,
        format!(
            "{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tstorage file_system {here}/storage\n}}\n{text}"
        ),
    )
    .unwrap();
    let file = file.display().to_string();
    Proxy::start(directory, port, "caddy", &["run", "--config", &file, "--adapter", "caddyfile"])
}

/// The arguments that a shipped file tells to use with it, without the address and the application.
fn advised(name: &str) -> Vec<String> {
    let text = shipped(name);
    let comment: String =
        text.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let command = comment.split("#   rgunicorn ").nth(1).unwrap_or_else(|| panic!("{name} names no command"));
    let words = command.split_whitespace().filter(|word| !["#", "\\"].contains(word));
    let words: Vec<&str> = words.take_while(|word| *word != "flask_app:app").collect();
    let bind = words.iter().position(|word| *word == "-b").unwrap();
    words
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != bind && *at != bind + 1)
        .map(|(_, word)| word.to_string())
        .collect()
}

fn server(arguments: &[String], application: &str) -> Server {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(arguments).args([application]).start()
}

/// For how long reloads are tried through a proxy, if at length: `tests/lossless` says so.
fn seconds() -> Option<u64> {
    std::env::var("RGUNICORN_LOAD_SECONDS").ok()?.parse().ok()
}

/// Clients on kept-alive connections, half of them with POSTs, which a proxy must not send twice. Reloads meanwhile.
/// Answers how many requests were answered well, and all others.
fn reload_under_load(server: &Server, port: u16) -> (usize, Vec<String>) {
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut good, mut bad) = (0, Vec::new());
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut client = kept.take().unwrap_or_else(|| Client::connect(port));
                    let request = match number % 2 {
                        0 => "GET /pid HTTP/1.1\r\nHost: t\r\n\r\n",
                        _ => "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
                    };
                    match client.try_send(request).and_then(|()| client.read_response(false)) {
                        Ok(response) if response.status == 200 && response.whole => {
                            good += 1;
                            kept = (response.header("Connection") != Some("close")).then_some(client);
                        }
                        other => bad.push(format!("{other:?}")),
                    }
                }
                (good, bad)
            })
        })
        .collect();
    match seconds() {
        None => (2..=5).for_each(|number| {
            std::thread::sleep(Duration::from_millis(400));
            server.signal(Signal::SIGHUP);
            server.wait_for_log(&format!("Generation {number} serves"));
        }),
        Some(seconds) => (0..seconds).for_each(|_| {
            std::thread::sleep(Duration::from_secs(1));
            server.signal(Signal::SIGHUP);
        }),
    }
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let results: Vec<(usize, Vec<String>)> =
        clients.into_iter().map(|client| client.join().unwrap()).collect();
    (results.iter().map(|(good, _)| good).sum(), results.into_iter().flat_map(|(_, bad)| bad).collect())
}

#[test]
fn no_reload_loses_a_request_through_nginx() {
    let every = ["event", "sync", "threads", "asgi", "coro", "gevent", "eventlet", "tornado"];
    let classes = if seconds().is_some() { &every[..] } else { &every[..4] };
    for class in classes {
        let mut arguments = advised("nginx.conf");
        let at = arguments.iter().position(|word| word == "-k").unwrap();
        arguments[at + 1] = class.to_string();
        let server = server(&arguments, "promises:app");
        let nginx = nginx(&server);
        assert_eq!(nginx.get("/static/a.css").text(), "body { color: red }\n");
        let (good, bad) = reload_under_load(&server, nginx.port);
        let reloads = server.log().matches("finishes what it holds").count();
        println!(
            "{class}, through nginx: {good} answered, {} lost, {reloads} reloads went through",
            bad.len()
        );
        assert!(bad.is_empty() && good > 100, "{class}: {good} good, {} bad: {:?}", bad.len(), bad.first());
    }
}

#[test]
fn the_nginx_of_compose_passes_on() {
    let server = server(&["--keep-alive".to_string(), "75".to_string()], "promises:app");
    let site = replaced(&shipped("nginx-compose.conf"), "site:8000", &format!("127.0.0.1:{}", server.port()));
    let nginx = nginx_with(&site);
    for path in ["/environ", "/events/environ"] {
        let answer = nginx.get(path);
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.text().contains("\"HTTP_X_FORWARDED_FOR\": \"127.0.0.1\""), "{}", answer.text());
    }
}

#[test]
fn nginx_says_who_the_client_is_and_passes_websockets() {
    let server = server(&advised("nginx.conf"), "promises:app");
    let proxy = nginx(&server);
    let environ = proxy.get("/environ").text();
    assert_has(&environ, ["\"HTTP_X_FORWARDED_FOR\": \"127.0.0.1\"", "\"wsgi.url_scheme\": \"http\""]);
    let mut arguments = advised("nginx.conf");
    let at = arguments.iter().position(|word| word == "-k").unwrap();
    arguments[at + 1] = "coro".to_string();
    let sockets = self::server(&arguments, "sockets:app");
    let proxy = nginx(&sockets);
    let script = repository().join("tests/clients/websocket_client.py");
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let done = Command::new(python()).arg(script).args([url.as_str(), "3"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn no_reload_loses_a_request_through_haproxy_which_says_who_the_client_is() {
    let server = server(&advised("haproxy.cfg"), "promises:app");
    let proxy = haproxy(&server);
    let environ = proxy.get("/environ").text();
    assert_has(&environ, ["\"PROXY_PROTOCOL\": \"TCP4\"", &format!("\"PROXY_PORT\": \"{}\"", proxy.port)]);
    let (good, bad) = reload_under_load(&server, proxy.port);
    assert!(bad.is_empty() && good > 100, "{good} good, {} bad: {:?}", bad.len(), bad.first());
}

#[test]
fn no_reload_loses_a_request_through_caddy_which_looks_at_our_health() {
    let server = server(&advised("Caddyfile"), "promises:app");
    server.wait_for_log("is ready");
    let proxy = caddy(&server);
    assert_eq!(proxy.get("/static/a.css").text(), "body { color: red }\n");
    let environ = proxy.get("/environ").text();
    assert_has(&environ, ["\"HTTP_X_FORWARDED_FOR\": \"127.0.0.1\"", "\"HTTP_X_FORWARDED_PROTO\": \"http\""]);
    // A first look at the health was at the start; the next comes after 5 s.
    let (good, bad) = reload_under_load(&server, proxy.port);
    assert!(bad.is_empty() && good > 100, "{good} good, {} bad: {:?}", bad.len(), bad.first());
    assert!(!proxy.output().contains("unhealthy"), "{}", proxy.output());
}

#[test]
fn systemd_accepts_the_units() {
    let directory = tempfile::tempdir().unwrap();
    // The program must be there for systemd to be content.
    let binary = env!("CARGO_BIN_EXE_rgunicorn");
    let service = replaced(&shipped("site.service"), "/usr/local/bin/rgunicorn", binary);
    let files: Vec<PathBuf> = [("site.service", service), ("site.socket", shipped("site.socket"))]
        .into_iter()
        .map(|(name, text)| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let done = Command::new("systemd-analyze").arg("verify").args(&files).output();
    let done =
        done.unwrap_or_else(|error| panic!("systemd-analyze can't be run ({error}): tests/run installs it"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("site.")).collect();
    assert!(about_us.is_empty(), "{said}");
}

/// As process 1 of a container: no init around it, orphans of the application are its to reap.
#[test]
fn as_process_1_it_reaps_orphans_and_heeds_signals() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let site = "import os, subprocess\n\
        def app(environ, start_response):\n\
        \x20   if environ['PATH_INFO'] == '/orphan':\n\
        \x20       subprocess.run(['sh', '-c', 'sleep 0.2 &'])\n\
        \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
        \x20   states = []\n\
        \x20   for name in os.listdir('/proc'):\n\
        \x20       if name.isdigit():\n\
        \x20           try:\n\
        \x20               states.append(open(f'/proc/{name}/stat').read().rpartition(')')[2].split()[0])\n\
        \x20           except OSError:\n\
        \x20               pass\n\
        \x20   return [f\"{os.getppid()} {len(states)} {'Z' in states}\".encode()]\n";
    std::fs::write(directory.path().join("site1.py"), site).unwrap();
    let inner = Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
        .no_bind()
        .directory(directory.path())
        .args(["--bind", &format!("127.0.0.1:{port}"), "site1:app"])
        .command();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let mut command = Command::new("unshare");
    let namespaces = match nix::unistd::geteuid().is_root() {
        true => &["--pid", "--fork", "--mount-proc", "--kill-child"][..],
        false => &["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"],
    };
    command.args(namespaces).arg(inner.get_program()).args(inner.get_args()).current_dir(directory.path());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let said = || std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
    let result = std::panic::catch_unwind(|| container(port, directory.path(), child.id() as i32));
    if result.is_err() {
        eprintln!("{}", said());
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    assert!(result.is_ok() && status.success(), "{status}\n{}", said());
    assert!(said().contains("Shutting down: Master"), "{}", said());
}

fn container(port: u16, directory: &Path, unshare: i32) {
    let start = Instant::now();
    let log = || std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    while !log().contains("Booting worker") {
        assert!(start.elapsed() < Duration::from_secs(20), "it doesn't start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let get = |path: &str| Client::connect(port).get(path).text();
    let before = get("/");
    assert!(before.starts_with("1 "), "the arbiter is process 1: {before}");
    assert!(get("/orphan").starts_with("1 "));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(get("/"), before, "as many processes as before, and no zombie");
    // The kernel gives process 1 only signals that it has a handler for.
    let inner = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    kill(Pid::from_raw(inner.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
}
