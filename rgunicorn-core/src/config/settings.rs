//! Every setting, declared once.
//!
//! To add one, add its entry here: the field of [`Config`], the flag, the key of configuration files, the line of
//! `--print-config` and the row of `docs/settings.md` follow. `table` says what an entry is made of.
//! Names, flags and defaults are gunicorn's, but for the last section.

use std::path::PathBuf;
use std::time::Duration;

use super::address::BindAddress;
use super::kind::*;
use super::table::{Setting, Status, settings};
use super::value::Value;
use crate::http::{AllowList, HeaderMap, Policy};

/// gunicorn's `access_log_format`: the combined log format.
const ACCESS_LOG_FORMAT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// Trusted unless said otherwise: clients on this machine.
fn localhost() -> AllowList {
    Policy::default().forwarded_allow
}

fn secure_scheme_headers() -> Vec<(String, String)> {
    Policy::default().secure_scheme_headers
}

settings! {
    "Config File" {
        /// The configuration file: a path, `file:PATH`, or `python:MODULE` for a module on the path; a name
        /// that ends in `.toml` is TOML, any other is Python. `program:PATH` is a Python program that has a server
        /// in it, by a subclass of gunicorn's `BaseApplication`: its settings and its application are taken. Without it `./gunicorn.conf.py` is read, or
        /// else `./rgunicorn.toml`.
        config: PathBuf as ConfigPlace = "./gunicorn.conf.py".into(), ["-c", "--config"] CONFIG, Implemented;
        /// The application, as `module:attribute` or `module:factory()`; one named on the command line goes
        /// before it.
        wsgi_app: Option<String> as OptionalText = None, [] STRING, Implemented;
    }

    "Server Socket" {
        /// An address to listen on: `host:port`, `[v6]:port`, `:port`, `unix:PATH`, `unix:@NAME` (abstract)
        /// or `fd://N`; may be given several times. Where the environment has `PORT`, the default is
        /// `0.0.0.0:$PORT`.
        bind: Vec<BindAddress> as Binds = vec![BindAddress::Tcp { host: "127.0.0.1".into(), port: 8000 }],
            ["-b", "--bind"] ADDRESS, Implemented;
        /// How many connections the kernel may hold that no worker has accepted yet.
        backlog: u32 as Whole = 2048, ["--backlog"] INT, Implemented;
    }

    "Worker Processes" {
        /// How many worker processes serve requests. Where the environment has `WEB_CONCURRENCY`, that is the
        /// default.
        workers: usize as Whole = 1, ["-w", "--workers"] INT, Implemented;
        /// The class of the workers: `sync`, `event`, `threads`, `coro`, `asgi`, `gevent`, `eventlet`, `tornado`,
        /// or a Python class with gunicorn's worker interface by its path, such as `package.module.Class`. Where
        /// none is asked for, an ASGI application has `asgi`.
        worker_class: String as ClassName = "sync".into(), ["-k", "--worker-class"] STRING, Implemented;
        /// How many threads a worker answers requests with; more than one with class `sync` means class
        /// `threads`.
        threads: usize as Whole = 1, ["--threads"] INT, Implemented;
        /// How many connections a worker holds at once; further clients wait in the backlog, until an idle one makes way
        /// or a response ends its connection for them.
        worker_connections: usize as Positive = 1000,
            ["--worker-connections"] INT, Implemented;
        /// After how many requests a worker is replaced by a new one; 0 never replaces it.
        max_requests: u64 as Whole = 0, ["--max-requests"] INT, Implemented;
        /// Adds a random number up to this one to `max_requests`, worker by worker, so that they are not all
        /// replaced at once.
        max_requests_jitter: u64 as Whole = 0, ["--max-requests-jitter"] INT, Implemented;
        /// A worker that gives no sign of life for this many seconds is killed and replaced; 0 waits for
        /// ever.
        timeout: Duration as Seconds = Duration::from_secs(30), ["-t", "--timeout"] INT, Implemented;
        /// How many seconds a worker that was told to stop has for the requests it holds.
        graceful_timeout: Duration as Seconds = Duration::from_secs(30),
            ["--graceful-timeout"] INT, Implemented;
        /// How many seconds a connection may wait for its next request; 0 closes it after each response.
        keepalive: Duration as Seconds = Duration::from_secs(2), ["--keep-alive"] INT, Implemented;
        /// The event loop of ASGI workers: `asyncio`, `uvloop`, or `auto` for the better of those installed.
        asgi_loop: String as AsgiLoop = "auto".into(), ["--asgi-loop"] STRING, Implemented;
        /// The lifespan protocol of ASGI: `on`, `off`, or `auto` for applications that know it.
        asgi_lifespan: String as AsgiLifespan = "auto".into(), ["--asgi-lifespan"] STRING, Implemented;
        /// How many seconds an ASGI application has after its client went away.
        asgi_disconnect_grace_period: Duration as Seconds = Duration::from_secs(3),
            ["--asgi-disconnect-grace-period"] INT, Implemented;
        /// The largest WebSocket message taken, in bytes; 0 is no limit.
        websocket_max_message_size: u64 as Whole = 16 * 1024 * 1024,
            ["--websocket-max-message-size"] INT, Implemented;
        /// Which of gunicorn's parsers reads requests.
        http_parser: String as HttpParser = "auto".into(),
            ["--http-parser"] STRING, Accepted("there is one parser, and it is fast");
    }

    "Security" {
        /// The longest request line in bytes, answered with 414 beyond; 0 is a mebibyte.
        limit_request_line: usize as Whole = 4094, ["--limit-request-line"] INT, Implemented;
        /// The most header fields in a request, answered with 431 beyond.
        limit_request_fields: usize as Whole = 100, ["--limit-request-fields"] INT, Implemented;
        /// The longest header field in bytes, answered with 431 beyond.
        limit_request_field_size: usize as Whole = 8190, ["--limit-request-field_size"] INT, Implemented;
    }

    "Server Mechanics" {
        /// Loads the application once, before the workers are forked, so that they share its memory.
        preload_app: bool as Switch = false, ["--preload"], Implemented;
        /// Sends files by `sendfile`, without copying them through the worker; the flag turns it off, and so
        /// does a `SENDFILE` in the environment that is not `yes`.
        sendfile: bool as SwitchOff = true, ["--no-sendfile"], Implemented;
        /// Sets `SO_REUSEPORT` on the listening sockets, so that several servers can share a port.
        reuse_port: bool as Switch = false, ["--reuse-port"], Implemented;
        /// The directory to change to before the application is loaded, and the first place its modules are
        /// looked for in.
        chdir: PathBuf as Directory = ".".into(), ["--chdir"], Implemented;
        /// Goes to the background, away from the terminal.
        daemon: bool as Switch = false, ["-D", "--daemon"], Implemented;
        /// A `NAME=value` to put into the environment of the application; may be given several times.
        raw_env: Vec<(String, Option<String>)> as EnvPairs = Vec::new(), ["-e", "--env"] ENV, Implemented;
        /// The file that the number of the main process is written to.
        pidfile: Option<PathBuf> as OptionalPath = None, ["-p", "--pid"] FILE, Implemented;
        /// A further directory for unlinked temporary files, where the system's can't be written. In gunicorn that of the
        /// heartbeat files; here workers beat in shared memory.
        worker_tmp_dir: Option<PathBuf> as OptionalPath = None, ["--worker-tmp-dir"] DIR, Implemented;
        /// The user that workers run as, by name or number; `None` leaves it as it is.
        user: Option<u32> as UserId = None, ["-u", "--user"] USER, Implemented;
        /// The group that workers run as, by name or number; `None` leaves it as it is.
        group: Option<u32> as GroupId = None, ["-g", "--group"] GROUP, Implemented;
        /// The mask of the permissions of files and Unix sockets made by the server, such as `0o22` or `022`.
        umask: u32 as Octal = 0, ["-m", "--umask"] INT, Implemented;
        /// Gives workers every group of the user they run as, not only the one of `group`.
        initgroups: bool as Switch = false, ["--initgroups"], Implemented;
        /// The directory of the unlinked temporary files that large request bodies go to; `None` is the
        /// system's. Where it can't be written, `worker_tmp_dir`, `/var/tmp`, `/dev/shm` and memory are tried in turn.
        tmp_upload_dir: Option<PathBuf> as OptionalPath = None, [] DIR, Implemented;
        /// Headers of a trusted proxy, each with the value that says that the client came by TLS;
        /// `wsgi.url_scheme` is `https` then. `wss` is as good as `https`.
        secure_scheme_headers: Vec<(String, String)> as SchemeHeaders = secure_scheme_headers(),
            [], Implemented;
        /// Proxies whose forwarding and scheme headers are believed: addresses and networks with commas
        /// between them, or `*`. Where the environment has `FORWARDED_ALLOW_IPS`, that is the default.
        forwarded_allow_ips: AllowList as AllowIps = localhost(),
            ["--forwarded-allow-ips"] STRING, Implemented;
        /// Directories that Python looks for modules in, with commas between them.
        pythonpath: Vec<PathBuf> as Paths = Vec::new(), ["--pythonpath"] STRING, Implemented;
        /// A PasteDeploy file to load the application from, with `#name` for one of several in it; goes before
        /// `wsgi_app`.
        paste: Option<String> as OptionalText = None, ["--paste", "--paster"] STRING, Implemented;
        /// Reads a PROXY protocol header, where there is one, at the start of each connection: version `v1`,
        /// `v2`, or either (`auto`). The client that it names is `REMOTE_ADDR`.
        proxy_protocol: String as ProxyProtocol = "off".into(), ["--proxy-protocol"] MODE, Implemented;
        /// Proxies whose PROXY protocol headers are believed: addresses and networks with commas between them, or
        /// `*`. Others that send one are answered with 403.
        proxy_allow_ips: AllowList as AllowIps = localhost(), ["--proxy-allow-from"], Implemented;
        /// What clients speak: `http` or `uwsgi`.
        protocol: String as Text = "http".into(), ["--protocol"] STRING, Planned;
        /// Peers that may speak the uwsgi protocol.
        uwsgi_allow_ips: AllowList as AllowIps = localhost(), ["--uwsgi-allow-from"], Planned;
        /// A `name=value` for the PasteDeploy file; may be given several times.
        raw_paste_global_conf: Vec<String> as Texts = Vec::new(), ["--paste-global"] CONF, Implemented;
        /// Accepts header fields folded over several lines, which RFC 9112 forbids.
        permit_obsolete_folding: bool as Switch = false, ["--permit-obsolete-folding"], Implemented;
        /// Accepts white space between a header's name and its colon, which RFC 9112 forbids.
        strip_header_spaces: bool as Switch = false, ["--strip-header-spaces"], Implemented;
        /// Accepts methods that no standard would name: short, long, with lower-case letters or `#`.
        permit_unconventional_http_method: bool as Switch = false,
            ["--permit-unconventional-http-method"], Implemented;
        /// Accepts versions other than HTTP/1.0 and HTTP/1.1.
        permit_unconventional_http_version: bool as Switch = false,
            ["--permit-unconventional-http-version"], Implemented;
        /// Turns methods to upper case.
        casefold_http_method: bool as Switch = false, ["--casefold-http-method"], Implemented;
        /// Header names with an underscore that a trusted proxy may send all the same, with commas between
        /// them.
        forwarder_headers: Vec<String> as HeaderNames = vec!["SCRIPT_NAME".into(), "PATH_INFO".into()],
            ["--forwarder-headers"], Implemented;
        /// What becomes of a header whose name has an underscore, and so could pass for another: `drop` it,
        /// `refuse` the request, or pass it on, which is `dangerous`.
        header_map: HeaderMap as HeaderMaps = HeaderMap::Drop, ["--header-map"], Implemented;
        /// The path that ASGI applications are mounted at; a slash at its end is left out.
        root_path: String as Text = String::new(), ["--root-path"] STRING, Implemented;
    }

    "Process Naming" {
        /// The name of the processes in `ps` and `top`.
        proc_name: Option<String> as OptionalText = None, ["-n", "--name"] STRING, Implemented;
        /// The name of the processes where `proc_name` is not set; an application named on the command line
        /// is put here.
        default_proc_name: String as Text = "rgunicorn".into(), [], Implemented;
    }

    "Logging" {
        /// The file of the access log, or `-` for standard output; `None` writes none.
        accesslog: Option<LogTarget> as Target = None, ["--access-logfile"] FILE, Implemented;
        /// Keeps the access log out of syslog.
        disable_redirect_access_to_syslog: bool as Switch = false,
            ["--disable-redirect-access-to-syslog"], Implemented;
        /// What a line of the access log says, in gunicorn's atoms.
        access_log_format: String as Text = ACCESS_LOG_FORMAT.into(),
            ["--access-logformat"] STRING, Implemented;
        /// The file of the error log, or `-` for standard error.
        errorlog: LogTarget as Target = LogTarget::Standard,
            ["--error-logfile", "--log-file"] FILE, Implemented;
        /// The least severe messages that the error log takes: `debug`, `info`, `warning`, `error` or
        /// `critical`.
        loglevel: LogLevel as Level = LogLevel::Info, ["--log-level"] LEVEL, Implemented;
        /// Sends the standard output and error of the application to the error log's file.
        capture_output: bool as Switch = false, ["--capture-output"], Implemented;
        /// The class of the logger that the logs go through: a class that is derived from `gunicorn.glogging.Logger`, by its
        /// path, or itself in a Python file. See [logging.md](logging.md).
        logger_class: String as ClassName = "gunicorn.glogging.Logger".into(),
            ["--logger-class"] STRING, Implemented;
        /// A file in the form of Python's `logging.config.fileConfig`: the logs go through Python's `logging`, by the
        /// loggers `gunicorn.error` and `gunicorn.access`. See [logging.md](logging.md).
        logconfig: Option<PathBuf> as OptionalPath = None, ["--log-config"] FILE, Implemented;
        /// A dictionary in the form of Python's `logging.config.dictConfig`, for the same; goes before the other two.
        logconfig_dict: Vec<(String, Value)> as Mapping = Vec::new(), [], Implemented;
        /// The same as a file with JSON; goes before `logconfig`.
        logconfig_json: Option<PathBuf> as OptionalPath = None, ["--log-config-json"] FILE, Implemented;
        /// Where syslog listens.
        syslog_addr: String as Text = "udp://localhost:514".into(), ["--log-syslog-to"] SYSLOG_ADDR, Implemented;
        /// Sends the logs to syslog.
        syslog: bool as Switch = false, ["--log-syslog"], Implemented;
        /// The name of the program in the lines of syslog.
        syslog_prefix: Option<String> as OptionalText = None, ["--log-syslog-prefix"] SYSLOG_PREFIX, Implemented;
        /// The facility of the lines of syslog.
        syslog_facility: String as Text = "user".into(), ["--log-syslog-facility"] SYSLOG_FACILITY, Implemented;
        /// Leaves standard output and error of a daemon open.
        enable_stdio_inheritance: bool as Switch = false, ["-R", "--enable-stdio-inheritance"], Implemented;
        /// The StatsD server that metrics are sent to.
        statsd_host: Option<String> as OptionalText = None, ["--statsd-host"] STATSD_ADDR, Implemented;
        /// Tags that go with every metric, with commas between them.
        dogstatsd_tags: String as Text = String::new(), ["--dogstatsd-tags"] DOGSTATSD_TAGS, Implemented;
        /// What the names of metrics begin with.
        statsd_prefix: String as Text = String::new(), ["--statsd-prefix"] STATSD_PREFIX, Implemented;
        /// Sends how many connections wait in the backlog as a metric.
        enable_backlog_metric: bool as Switch = false, ["--enable-backlog-metric"], Implemented;
    }

    "Debugging" {
        /// Restarts workers when the code of the application changes: for development. An application that can't
        /// be loaded is answered for with its traceback until it is mended. With `preload_app` only what is
        /// imported later is new.
        reload: bool as Switch = false, ["--reload"], Implemented;
        /// What tells `reload` of changes: `inotify`, `poll` (once a second), or `auto` for the better of them.
        reload_engine: String as ReloadEngine = "auto".into(), ["--reload-engine"] STRING, Implemented;
        /// A further file, or a pattern of files, that `reload` watches; may be given several times.
        reload_extra_files: Vec<PathBuf> as Files = Vec::new(), ["--reload-extra-file"] FILES, Implemented;
        /// Prints each line of Python before it is executed, with the variables in it: for the worst of bugs.
        spew: bool as Switch = false, ["--spew"], Implemented;
        /// Checks the configuration, loads the application, and exits: with status 0 if both are well.
        check_config: bool as Switch = false, ["--check-config"], Implemented;
        /// Prints every setting as resolved, then does as `check_config`.
        print_config: bool as Switch = false, ["--print-config"], Implemented;
    }

    "SSL" {
        /// The private key for TLS.
        keyfile: Option<PathBuf> as OptionalPath = None, ["--keyfile"] FILE, Planned;
        /// The certificate for TLS.
        certfile: Option<PathBuf> as OptionalPath = None, ["--certfile"] FILE, Planned;
        /// A TLS version.
        ssl_version: String as SslVersion = "2".into(),
            ["--ssl-version"], Accepted("gunicorn ignores it, too");
        /// Whether a client must have a certificate: 0 no, 1 may, 2 must.
        cert_reqs: u32 as Whole = 0, ["--cert-reqs"], Planned;
        /// The certificates that clients' certificates are checked against.
        ca_certs: Option<PathBuf> as OptionalPath = None, ["--ca-certs"] FILE, Planned;
        /// Takes a TLS connection that just ends for one that was closed.
        suppress_ragged_eofs: bool as Switch = true, ["--suppress-ragged-eofs"], Planned;
        /// Does the TLS handshake as soon as a client connects.
        do_handshake_on_connect: bool as Switch = false, ["--do-handshake-on-connect"], Planned;
        /// The TLS ciphers allowed, in OpenSSL's notation.
        ciphers: Option<String> as OptionalText = None, ["--ciphers"], Planned;
    }

    "HTTP/2" {
        /// The versions of HTTP spoken, the preferred one first: `h1`, `h2`.
        http_protocols: Vec<String> as Protocols = vec!["h1".into()], ["--http-protocols"] STRING, Planned;
        /// HTTP/2 without TLS: by `prior-knowledge`, by `upgrade`, by `both`, or not at all.
        http2_cleartext: String as Http2Cleartext = "off".into(), ["--http2-cleartext"] STRING, Planned;
        /// The most requests at a time on an HTTP/2 connection.
        http2_max_concurrent_streams: u32 as Positive = 100,
            ["--http2-max-concurrent-streams"] INT, Planned;
        /// The first flow control window of an HTTP/2 stream, in bytes.
        http2_initial_window_size: u32 as WindowSize = 65535,
            ["--http2-initial-window-size"] INT, Planned;
        /// The largest HTTP/2 frame taken, in bytes.
        http2_max_frame_size: u32 as FrameSize = 16384,
            ["--http2-max-frame-size"] INT, Planned;
        /// The largest HTTP/2 header list taken, in bytes.
        http2_max_header_list_size: u32 as Whole = 65536, ["--http2-max-header-list-size"] INT, Planned;
    }

    "Server Hooks" {
        /// Called in the main process before it listens: `on_starting(server)`.
        on_starting: Option<String> as Hook = None, [], Implemented;
        /// Called in the main process when settings were read again: `on_reload(server)`. If it raises, the
        /// reload has failed and the old settings go on.
        on_reload: Option<String> as Hook = None, [], Implemented;
        /// Called in the main process once it listens: `when_ready(server)`.
        when_ready: Option<String> as Hook = None, [], Implemented;
        /// Called in the main process before each fork: `pre_fork(server, worker)`.
        pre_fork: Option<String> as Hook = None, [], Implemented;
        /// Called in each new worker, before it gives up its privileges: `post_fork(server, worker)`.
        post_fork: Option<String> as Hook = None, [], Implemented;
        /// Called in each worker once it has loaded the application: `post_worker_init(worker)`.
        post_worker_init: Option<String> as Hook = None, [], Implemented;
        /// Called in a worker that was told to leave at once (SIGINT, SIGQUIT): `worker_int(worker)`.
        worker_int: Option<String> as Hook = None, [], Implemented;
        /// Called in a worker that is stopped for its silence, between two instructions of its main thread:
        /// `worker_abort(worker)`.
        worker_abort: Option<String> as Hook = None, [], Implemented;
        /// Called in the new process before it becomes a new server (SIGUSR2): `pre_exec(server)`.
        pre_exec: Option<String> as Hook = None, [], Implemented;
        /// Called in a worker before each request: `pre_request(worker, req)`.
        pre_request: Option<String> as Hook = None, [], Implemented;
        /// Called in a worker after each request: `post_request(worker, req, environ, resp)`, or with fewer of
        /// these.
        post_request: Option<String> as Hook = None, [], Implemented;
        /// Called in the main process after a worker has gone: `child_exit(server, worker)`.
        child_exit: Option<String> as Hook = None, [], Implemented;
        /// Called in a worker that is about to go: `worker_exit(server, worker)`.
        worker_exit: Option<String> as Hook = None, [], Implemented;
        /// Called in the main process when the number of workers is set: `nworkers_changed(server, new, old)`.
        nworkers_changed: Option<String> as Hook = None, [], Implemented;
        /// Called in the main process right before it goes: `on_exit(server)`.
        on_exit: Option<String> as Hook = None, [], Implemented;
        /// Makes the TLS context.
        ssl_context: Option<String> as Hook = None, [], Planned;
    }

    "Dirty Arbiters" {
        /// An application for dirty workers; may be given several times.
        dirty_apps: Vec<String> as Texts = Vec::new(), ["--dirty-app"] STRING, Planned;
        /// How many dirty workers there are.
        dirty_workers: usize as Whole = 0, ["--dirty-workers"] INT, Planned;
        /// A dirty worker that takes longer over a task, in seconds, is killed.
        dirty_timeout: Duration as Seconds = Duration::from_secs(300), ["--dirty-timeout"] INT, Planned;
        /// How many threads a dirty worker has.
        dirty_threads: usize as Whole = 1, ["--dirty-threads"] INT, Planned;
        /// How many seconds a dirty worker that was told to stop has for its task.
        dirty_graceful_timeout: Duration as Seconds = Duration::from_secs(30),
            ["--dirty-graceful-timeout"] INT, Planned;
    }

    "Dirty Arbiter Hooks" {
        /// Called before the arbiter of dirty workers starts.
        on_dirty_starting: Option<String> as Hook = None, [], Planned;
        /// Called in each new dirty worker.
        dirty_post_fork: Option<String> as Hook = None, [], Planned;
        /// Called in each dirty worker once it has loaded its applications.
        dirty_worker_init: Option<String> as Hook = None, [], Planned;
        /// Called in a dirty worker that is about to go.
        dirty_worker_exit: Option<String> as Hook = None, [], Planned;
    }

    "Control" {
        /// The Unix socket that `rgunicorn ctl` controls the server by; `None` is `$XDG_RUNTIME_DIR/rgunicorn.ctl`, or
        /// else `~/.rgunicorn/rgunicorn.ctl`, as long as no other server has it.
        control_socket: Option<PathBuf> as OptionalPath = None, ["--control-socket"] PATH, Implemented;
        /// The permissions of the control socket. As long as they are its owner's alone, others are turned away, whatever
        /// becomes of the file.
        control_socket_mode: u32 as Octal = 0o600, ["--control-socket-mode"] INT, Implemented;
        /// Makes no control socket.
        control_socket_disable: bool as Switch = false, ["--no-control-socket"], Implemented;
    }

    "rgunicorn" {
        /// How many seconds a client has for the whole head of a request, from its first byte on; 0 is no
        /// limit.
        client_header_timeout: Duration as Seconds = Duration::from_secs(30),
            ["--client-header-timeout"] SECONDS, Implemented;
        /// How many seconds may pass between two pieces of a request body; 0 is no limit.
        client_body_timeout: Duration as Seconds = Duration::from_secs(60),
            ["--client-body-timeout"] SECONDS, Implemented;
        /// How many seconds a client may take nothing of a response that waits for it; 0 is no limit.
        send_timeout: Duration as Seconds = Duration::from_secs(60), ["--send-timeout"] SECONDS, Implemented;
        /// A worker with more resident memory than this is replaced, as after `max_requests`; 0 is no limit.
        worker_max_rss: u64 as Bytes = 0, ["--worker-max-rss"] BYTES, Implemented;
        /// A worker with more resident memory than this is killed at once, whatever it does, and replaced: looked at once
        /// a second; 0 is no limit. To be above `worker_max_rss`.
        worker_memory_limit: u64 as Bytes = 0, ["--worker-memory-limit"] BYTES, Implemented;
        /// How many workers there may be while those there are are busy; there are never fewer than `workers`. 0 keeps
        /// their number.
        workers_max: usize as Whole = 0, ["--workers-max"] INT, Implemented;
        /// For how many seconds one worker fewer must be enough before there is one fewer, with `workers_max`.
        workers_idle: Duration as Seconds = Duration::from_secs(30), ["--workers-idle"] SECONDS, Implemented;
        /// How many seconds the server serves on after SIGTERM before it stops, while `health_path` answers 503: as long as
        /// it takes until nobody sends new clients here.
        stop_delay: Duration as Seconds = Duration::ZERO, ["--stop-delay"] SECONDS, Implemented;
        /// How many seconds the application has for a request; then an exception is raised in it, and the client gets a 504 if
        /// nothing was sent. 0 is no limit. Class `coro` alone.
        request_timeout: Duration as Seconds = Duration::ZERO, ["--request-timeout"] SECONDS, Implemented;
        /// A request that keeps all others of its worker waiting for this many seconds, by a call that doesn't let go of Python's
        /// lock, is logged with its traceback, once for each place in the code; 0 looks for none. Class `coro`.
        loop_lag: Duration as Seconds = Duration::from_millis(500), ["--loop-lag"] SECONDS, Implemented;
        /// How much address space the stack of a request has; memory is taken as it is used. Class `coro`.
        coro_stack: u64 as Bytes = 4 << 20, ["--coro-stack"] BYTES, Implemented;
        /// Native libraries, by how their file names begin, whose thread-local variables all requests of a worker share, as code in
        /// one thread would, in place of each request having its own. Class `coro`; preloaded allocators are known.
        coro_shared_locals: Vec<String> as Texts = Vec::new(), ["--coro-shared-locals"] NAME, Implemented;
        /// Native libraries, by how their file names begin, that keep who is current in thread-local variables of which a thread has
        /// but one block (`STATIC_TLS`, or loaded with the server): its contents are exchanged whenever a request waits. Class `coro`.
        coro_exchanged_locals: Vec<String> as Texts = Vec::new(), ["--coro-exchanged-locals"] NAME, Implemented;
        /// The largest request head in bytes, its line and all its fields, answered with 431 beyond; 0 is no limit. There is
        /// always room for the longest request line and the longest header field.
        limit_request_head: u64 as Bytes = 64 * 1024, ["--limit-request-head"] BYTES, Implemented;
        /// The largest request body in bytes, answered with 413 beyond; 0 is no limit.
        limit_request_body: u64 as Whole = 0, ["--limit-request-body"] BYTES, Implemented;
        /// How many bytes of a request body are kept in memory; a larger one goes to an unlinked temporary
        /// file in `tmp_upload_dir`. With `threads` and `coro`, large bodies stream to the application instead, half as many
        /// at a time as there are threads.
        request_body_buffer: usize as Whole = 256 * 1024, ["--request-body-buffer"] BYTES, Implemented;
        /// How many bytes of request bodies a worker may have in temporary files at a time; 0 is no limit. A body that is larger
        /// by itself is answered with 413. Where others have used it up, the oldest that is still arriving goes on alone, and
        /// the rest waits for up to `client_body_timeout` (then 503).
        tmp_upload_limit: u64 as Bytes = 1 << 30, ["--tmp-upload-limit"] BYTES, Implemented;
        /// How many seconds pass until the client of a WebSocket is asked whether it is there, and from then on again and again;
        /// 0 asks nobody. Classes `asgi` and `tornado`.
        websocket_ping_interval: Duration as Seconds = Duration::from_secs(20),
            ["--websocket-ping-interval"] SECONDS, Implemented;
        /// How many seconds it then has to send something, be it the answer, before the WebSocket is closed; 0 is no limit.
        websocket_ping_timeout: Duration as Seconds = Duration::from_secs(20),
            ["--websocket-ping-timeout"] SECONDS, Implemented;
        /// Writes the access log as JSON, an object a line, in place of `access_log_format`.
        access_log_json: bool as Switch = false, ["--access-log-json"], Implemented;
        /// A path that the access log leaves out, such as that of health checks; may be given several times.
        access_log_skip: Vec<String> as Texts = Vec::new(), ["--access-log-skip"] PATH, Implemented;
        /// Writes the error log as JSON, an object a line.
        error_log_json: bool as Switch = false, ["--error-log-json"], Implemented;
        /// A request that takes longer than this many seconds is logged, once, with the Python tracebacks of its
        /// worker; 0 logs none.
        slow_request: Duration as Seconds = Duration::ZERO, ["--slow-request"] SECONDS, Implemented;
        /// The path of health checks, which are answered without the application: itself and `/ready` below it
        /// say whether requests are welcome, `/live` below it that the server lives.
        health_path: Option<String> as PagePath = None, ["--health-path"] PATH, Implemented;
        /// The path of the metrics for Prometheus, beside the application.
        metrics_path: Option<String> as PagePath = None, ["--metrics-path"] PATH, Implemented;
        /// An address of its own for the metrics (`/metrics`) and health checks (`/live`, `/ready`), answered by
        /// the main process, also where all workers hang.
        metrics_bind: Option<BindAddress> as OptionalBind = None, ["--metrics-bind"] ADDRESS, Implemented;
    }
}
