//! The bridge from request to answer, without an engine.

use std::net::SocketAddr;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rgunicorn_core::app::{AppError, Body, Peer, Request, ResponseError, ServerAddress};
use rgunicorn_core::http::{Header, Informational, InvalidResponse, RequestHead, Scheme, Span, Version};

use super::body::Answer;
use super::exchange::Outlet;
use super::{WsgiApplication, WsgiSettings};
use crate::python::testing::{attached, get, run};

const SETTINGS: WsgiSettings =
    WsgiSettings { multithread: false, multiprocess: true, sendfile: true, upgrades: true };

/// A request as the parser would leave it.
struct TestRequest {
    bytes: Vec<u8>,
    head: RequestHead,
    body: Body,
    peer: Peer,
    server: ServerAddress,
}

impl TestRequest {
    /// From a head with LF line ends, and a body behind an empty line. Knows no more of HTTP than these tests need.
    fn new(text: &str) -> Self {
        let (head_text, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let bytes = head_text.as_bytes().to_vec();
        let span = |part: &str| {
            let start = (part.as_ptr() as usize - head_text.as_ptr() as usize) as u32;
            Span { start, end: start + part.len() as u32 }
        };
        let mut lines = head_text.lines();
        let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let target = words[1];
        let origin = target.strip_prefix("http://").map_or(target, |rest| &rest[rest.find('/').unwrap()..]);
        let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
        let headers = lines.map(|line| line.split_once(':').unwrap());
        let head = RequestHead {
            method: span(words[0]),
            target: span(target),
            path: span(path),
            query: if query.is_empty() { Span::default() } else { span(query) },
            version: if words[2] == "HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 },
            headers: headers.map(|(n, v)| Header { name: span(n), value: span(v.trim()) }).collect(),
            ..RequestHead::default()
        };
        TestRequest {
            bytes,
            head,
            body: Body::from(body.as_bytes().to_vec()),
            peer: Peer::tcp(SocketAddr::from(([127, 0, 0, 1], 50000))),
            server: ServerAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8000))),
        }
    }

    fn request(&mut self) -> Request<'_> {
        Request::new(&self.head, &self.bytes, &mut self.body, &self.peer, &self.server)
    }
}

/// Stands for the engine's response.
#[derive(Debug, Default)]
struct Recorder {
    status: String,
    headers: Vec<(String, String)>,
    written: Vec<u8>,
    client_gone: bool,
}

impl Outlet for Recorder {
    fn start(&mut self, status: &[u8]) -> Result<(), ResponseError> {
        if status.contains(&b'\n') {
            return Err(InvalidResponse::Status("that".into()).into());
        }
        self.status = String::from_utf8_lossy(status).into_owned();
        self.headers.clear();
        Ok(())
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        if value.contains(&b'\n') {
            return Err(InvalidResponse::HeaderValue("that".into()).into());
        }
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        self.headers.push((text(name), text(value)));
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), ResponseError> {
        if self.client_gone {
            return Err(ResponseError::Disconnected);
        }
        self.written.extend_from_slice(piece);
        Ok(())
    }

    fn inform(&mut self, informational: &Informational) -> Result<(), ResponseError> {
        self.written.extend_from_slice(informational.as_bytes());
        Ok(())
    }
}

fn application(py: Python<'_>, code: &str) -> WsgiApplication {
    WsgiApplication::new(py, get(py, code, "app").unbind(), SETTINGS).unwrap()
}

fn answer(py: Python<'_>, application: &WsgiApplication, outlet: &mut Recorder) -> Result<Answer, AppError> {
    let environ = application.environ.build(py, &mut TestRequest::new("GET / HTTP/1.1").request())?;
    application.answer(py, &environ, outlet)
}

/// All pieces of an answer, and how it ended; a file's are read.
fn pieces(py: Python<'_>, answer: Answer) -> (Vec<Vec<u8>>, Result<(), AppError>) {
    let mut pieces = Vec::new();
    match answer {
        Answer::Empty | Answer::Elsewhere => {}
        Answer::Whole(bytes) => pieces.push(bytes.as_bytes(py).to_vec()),
        Answer::File(file, _returned) => {
            use std::os::unix::fs::FileExt;
            let mut bytes = vec![0; file.length as usize];
            std::fs::File::from(file.descriptor).read_exact_at(&mut bytes, file.offset).unwrap();
            pieces.push(bytes);
        }
        Answer::Stream(mut stream) => loop {
            match stream.pull(py) {
                Ok((written, item)) => {
                    let done = item.is_none();
                    pieces.extend([written, item.map_or(Vec::new(), |item| item.as_bytes().to_vec())]);
                    if done {
                        break;
                    }
                }
                Err(error) => return (pieces, Err(error)),
            }
        },
    }
    pieces.retain(|piece| !piece.is_empty());
    (pieces, Ok(()))
}

/// Calls `app` of `code` once; its head, what it wrote and what its body was.
fn serve(code: &str) -> Result<(Recorder, Vec<u8>), AppError> {
    attached(|py| {
        let application = application(py, code);
        let mut recorder = Recorder::default();
        let (pieces, end) = pieces(py, answer(py, &application, &mut recorder)?);
        end.map(|()| (recorder, pieces.concat()))
    })
}

fn failure(code: &str) -> String {
    match serve(code) {
        Err(AppError::Failed { report }) => report,
        other => panic!("not a failure: {other:?}"),
    }
}

/// An application of which only the body is written: what stands for `BODY`.
fn app(body: &str) -> String {
    let lines: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!("def app(environ, start_response):\n{lines}")
}

const OK: &str = "start_response('200 OK', [('Content-Type', 'text/plain')])";

#[test]
fn a_list_or_tuple_of_one_is_a_whole_body() {
    for body in ["[b'hello']", "(b'hello',)"] {
        let (recorder, body) = serve(&app(&format!("{OK}\nreturn {body}"))).unwrap();
        assert_eq!((recorder.status.as_str(), body.as_slice()), ("200 OK", &b"hello"[..]));
        assert_eq!(recorder.headers, [("Content-Type".to_string(), "text/plain".to_string())]);
    }
    for body in ["[]", "()", "[b'']", "iter(())", "iter([b'', b''])"] {
        assert_eq!(serve(&app(&format!("{OK}\nreturn {body}"))).unwrap().1, b"");
    }
}

#[test]
fn other_iterables_are_pulled_item_by_item() {
    attached(|py| {
        let code = app(&format!("{OK}\nreturn iter([b'', b'one', b'', b'two', b'three'])"));
        let answer = answer(py, &application(py, &code), &mut Recorder::default()).unwrap();
        assert!(matches!(answer, Answer::Stream(_)));
        assert_eq!(pieces(py, answer).0, [&b"one"[..], b"two", b"three"]);
    });
    for body in ["[b'one', b'two']", "(b'one', b'two')", "{b'onetwo': 1}", "Seq()"] {
        let code = format!(
            "class Seq:\n    def __getitem__(self, n): return (b'one', b'two')[n]\n{}",
            app(&format!("{OK}\nreturn {body}"))
        );
        assert_eq!(serve(&code).unwrap().1, b"onetwo", "{body}");
    }
}

#[test]
fn a_generator_may_start_the_response_with_its_first_item() {
    let (recorder, body) = serve(&app(&format!("yield b''\n{OK}\nyield b'late'"))).unwrap();
    assert_eq!((recorder.status.as_str(), body.as_slice()), ("200 OK", &b"late"[..]));
    assert!(failure(&app("yield b'too early'")).contains("did not call start_response()"));
    assert!(failure(&app("return [b'x']")).contains("did not call start_response()"));
    assert!(failure(&app("return []")).contains("did not call start_response()"));
}

#[test]
fn what_is_written_comes_first() {
    let (recorder, body) =
        serve(&app(&format!("write = {OK}\nwrite(b'one ')\nwrite(b'')\nwrite(b'two ')\nreturn [b'three']")))
            .unwrap();
    assert_eq!(recorder.written, b"one two ");
    assert_eq!(body, b"three");
    // PEP 3333 forbids it inside an iterable; other servers let it pass.
    let (_, body) =
        serve(&app(&format!("write = {OK}\nyield b'1'\nwrite(b'2')\nyield b'3'\nwrite(b'4')"))).unwrap();
    assert_eq!(body, b"1234");
}

#[test]
fn nothing_can_be_written_after_the_end() {
    attached(|py| {
        let space =
            run(py, &format!("kept = []\n{}", app(&format!("kept.append({OK})\nreturn [b'x']")))).unwrap();
        let app = space.get_item("app").unwrap().unwrap();
        let application = WsgiApplication::new(py, app.unbind(), SETTINGS).unwrap();
        answer(py, &application, &mut Recorder::default()).unwrap();
        let error = py.eval(c"kept[0](b'late')", Some(&space), None).unwrap_err();
        assert!(error.to_string().starts_with("RuntimeError"), "{error}");
    });
}

#[test]
fn a_second_start_needs_exc_info() {
    let text = failure(&app(&format!("{OK}\n{OK}\nreturn []")));
    assert!(text.contains("AssertionError"), "{text}");
    let replaced = "import sys\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    start_response('500 Oops', [('A', 'b')], sys.exc_info())\nreturn [b'sorry']";
    let (recorder, _) = serve(&app(&format!("{OK}\n{replaced}"))).unwrap();
    assert_eq!(recorder.status, "500 Oops");
    assert_eq!(recorder.headers, [("A".to_string(), "b".to_string())]);
}

#[test]
fn after_the_head_was_sent_exc_info_is_raised_again() {
    let again = "import sys\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    start_response('500 Oops', [], sys.exc_info())";
    let text = failure(&app(&format!("write = {OK}\nwrite(b'x')\n{again}\nreturn []")));
    assert!(text.ends_with("ZeroDivisionError: division by zero") && text.contains("line 6"), "{text}");
    let text = failure(&app(&format!("{OK}\nyield b'x'\n{again}")));
    assert!(text.ends_with("ZeroDivisionError: division by zero"), "{text}");
}

#[test]
fn what_start_response_is_given_is_checked_where_the_application_sees_it() {
    for (call, error) in [
        ("start_response(200, [])", "TypeError"),
        ("start_response(b'200 OK', [])", "TypeError"),
        ("start_response('200 OK\\n', [])", "ValueError"),
        ("start_response('200 \u{20ac}', [])", "ValueError"),
        ("start_response('200 OK', None)", "TypeError"),
        ("start_response('200 OK', [('A',)])", "ValueError"),
        ("start_response('200 OK', [(b'A', 'b')])", "TypeError"),
        ("start_response('200 OK', [('A', 1)])", "TypeError"),
        ("start_response('200 OK', [('A', 'b\\nC: d')])", "ValueError"),
        ("start_response('200 OK', [('A', '\u{20ac}')])", "ValueError"),
        ("start_response()", "TypeError"),
    ] {
        let code = format!(
            "try:\n    {call}\nexcept {error} as e:\n    pass\nelse:\n    raise SystemError\n{OK}\nreturn [b'']"
        );
        serve(&app(&code)).unwrap_or_else(|e| panic!("{call}: {e}"));
    }
    let (recorder, _) =
        serve(&app("start_response('200 OK', [['A', ' \\tb c\\t'], ('D', '')])\nreturn []")).unwrap();
    assert_eq!(recorder.headers, [("A".to_string(), "b c".to_string()), ("D".to_string(), String::new())]);
}

#[test]
fn a_head_that_was_refused_is_not_sent() {
    let text = failure(&app(
        "try:\n    start_response('200 OK', [('A', 1)])\nexcept TypeError: pass\nreturn [b'x']",
    ));
    assert!(text.contains("did not call start_response()"), "{text}");
}

#[test]
fn items_that_are_not_bytes_are_errors() {
    for body in
        ["['text']", "('text',)", "iter(['text'])", "[b'a', 'text']", "[None]", "'text'", "[bytearray(b'x')]"]
    {
        let text = failure(&app(&format!("{OK}\nreturn {body}")));
        assert!(text.contains("TypeError: the body of a response is made of bytes"), "{body}: {text}");
    }
    assert!(failure(&app(&format!("{OK}\nreturn None"))).contains("not iterable"));
    assert!(failure(&app(&format!("{OK}('text')"))).contains("TypeError"));
}

#[test]
fn an_exception_is_reported_and_an_exit_is_an_exit() {
    let text = failure(&app("raise LookupError('where?')"));
    assert!(text.starts_with("Traceback") && text.ends_with("LookupError: where?"), "{text}");
    assert!(failure(&app(&format!("{OK}\nyield b'x'\nraise LookupError"))).ends_with("LookupError"));
    for (raised, status) in [("SystemExit(4)", 4), ("SystemExit()", 0), ("KeyboardInterrupt()", 130)] {
        for code in [app(&format!("raise {raised}")), app(&format!("{OK}\nyield b'x'\nraise {raised}"))] {
            assert!(matches!(serve(&code), Err(AppError::Exit { code, .. }) if code == status), "{raised}");
        }
    }
}

#[test]
fn a_client_that_is_gone_is_no_failure_of_the_application() {
    attached(|py| {
        let code = app(&format!("write = {OK}\nwrite(b'x')\nreturn []"));
        let mut recorder = Recorder { client_gone: true, ..Recorder::default() };
        let result = answer(py, &application(py, &code), &mut recorder);
        assert!(matches!(result, Err(AppError::Disconnected)), "{result:?}");
    });
}

/// Counts calls of `close()` for a body that is made from `items`.
fn closes(items: &str, call: &str, pulls: usize) -> i64 {
    attached(|py| {
        let code = format!(
            "closed = []\nclass Body:\n    def __iter__(self): {items}\n    def close(self): closed.append(1)\n{}",
            app(&format!("{call}\nreturn Body()"))
        );
        let space = run(py, &code).unwrap();
        let app = space.get_item("app").unwrap().unwrap();
        let application = WsgiApplication::new(py, app.unbind(), SETTINGS).unwrap();
        if let Ok(Answer::Stream(mut stream)) = answer(py, &application, &mut Recorder::default()) {
            for _ in 0..pulls {
                if !matches!(stream.pull(py), Ok((_, Some(_)))) {
                    break;
                }
            }
        }
        space.get_item("closed").unwrap().unwrap().len().unwrap() as i64
    })
}

#[test]
fn close_is_called_exactly_once_in_every_case() {
    assert_eq!(closes("return iter([b'a', b'b'])", OK, 9), 1, "at the end");
    assert_eq!(closes("return iter([b'a', b'b'])", OK, 1), 1, "when the client goes away");
    assert_eq!(closes("return iter([b'a', b'b'])", OK, 0), 1, "before anything was sent");
    assert_eq!(closes("return iter([])", OK, 9), 1, "without any item");
    assert_eq!(closes("return iter([b'a', 'b'])", OK, 9), 1, "after a bad item");
    assert_eq!(closes("return iter(['b'])", OK, 9), 1, "after a bad first item");
    assert_eq!(closes("raise ValueError", OK, 9), 1, "when iter() fails");
    assert_eq!(closes("return iter([b'a'])", "pass", 9), 1, "without start_response()");
}

#[test]
fn interleaved_streams_keep_their_own_context_variables() {
    attached(|py| {
        let code = format!(
            "import contextvars\nname = contextvars.ContextVar('name')\ncount = iter('ab')\nlog = []\n\
             class Body:\n    def __init__(self): self.left = 3\n    def __iter__(self): return self\n\
             \x20   def __next__(self):\n        if not self.left: raise StopIteration\n        self.left -= 1\n        return name.get().encode()\n\
             \x20   def close(self): log.append(name.get())\n{}",
            app(&format!("name.set(next(count))\n{OK}\nreturn Body()"))
        );
        let space = run(py, &code).unwrap();
        let app = space.get_item("app").unwrap().unwrap();
        let application = WsgiApplication::new(py, app.unbind(), SETTINGS).unwrap();
        let next = || match answer(py, &application, &mut Recorder::default()) {
            Ok(Answer::Stream(stream)) => stream,
            other => panic!("{other:?}"),
        };
        let (mut a, mut b) = (next(), next());
        for _ in 0..3 {
            assert_eq!(a.pull(py).unwrap().1.unwrap().as_bytes(), b"a");
            assert_eq!(b.pull(py).unwrap().1.unwrap().as_bytes(), b"b");
        }
        drop(b);
        drop(a);
        let log: Vec<String> = space.get_item("log").unwrap().unwrap().extract().unwrap();
        assert_eq!(log, ["b", "a"]);
    });
}

#[test]
fn a_wrapped_file_is_left_to_the_kernel_from_where_it_stands() {
    attached(|py| {
        let file = std::env::temp_dir().join(format!("rgunicorn-file-{}", std::process::id()));
        std::fs::write(&file, b"0123456789").unwrap();
        let wrapped = |open: &str| {
            let code = app(&format!(
                "{OK}\nimport io, gzip, tempfile\nf = {open}\nf.seek(3)\nf.read(1)\nreturn environ['wsgi.file_wrapper'](f, 4)"
            ));
            answer(
                py,
                &application(py, &code.replace("FILE", &format!("{file:?}"))),
                &mut Recorder::default(),
            )
            .unwrap()
        };
        for open in ["open(FILE, 'rb')", "open(FILE, 'rb', buffering=0)", "open(FILE, 'r+b')"] {
            let answer = wrapped(open);
            assert!(
                matches!(&answer, Answer::File(file, _) if (file.offset, file.length) == (4, 6)),
                "{open}"
            );
            assert_eq!(pieces(py, answer).0, [&b"456789"[..]], "{open}");
        }
        let answer = wrapped("io.BytesIO(b'0123456789')");
        assert!(matches!(answer, Answer::Stream(_)));
        assert_eq!(pieces(py, answer).0, [&b"4567"[..], b"89"]);
        // What is read from it isn't what is in the file.
        let code = format!("import gzip\nwith gzip.open({file:?}, 'wb') as f: f.write(b'0123456789')");
        run(py, &code).unwrap();
        for open in ["gzip.open(FILE)", "io.BufferedReader(gzip.open(FILE))"] {
            assert_eq!(pieces(py, wrapped(open)).0.concat(), b"456789", "{open}");
        }
        std::fs::remove_file(file).unwrap();
    });
}

#[test]
fn a_wrapped_file_whose_size_says_nothing_is_read() {
    attached(|py| {
        for path in ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"] {
            let Ok(content) = std::fs::read(path) else { continue };
            let code = app(&format!("{OK}\nreturn environ['wsgi.file_wrapper'](open({path:?}, 'rb'))"));
            let answer = answer(py, &application(py, &code), &mut Recorder::default()).unwrap();
            assert_eq!(pieces(py, answer).0.concat(), content, "{path}");
        }
    });
}

#[test]
fn a_wrapped_file_is_closed_once_and_the_wrapper_is_what_people_expect() {
    attached(|py| {
        let code = "import io\nclass F(io.BytesIO):\n    n = 0\n    def close(self):\n        F.n += 1\n        super().close()\n\
                    class NoClose:\n    def read(self, n): return b''\n\
                    def app(environ, start_response):\n    start_response('200 OK', [])\n    w = environ['wsgi.file_wrapper']\n\
                    \x20   assert not hasattr(w(NoClose()), 'close') and w(NoClose()).blksize == 8192\n\
                    \x20   return w(F(b'abc'))";
        let space = run(py, code).unwrap();
        let app = space.get_item("app").unwrap().unwrap();
        let application = WsgiApplication::new(py, app.unbind(), SETTINGS).unwrap();
        let answer = answer(py, &application, &mut Recorder::default()).unwrap();
        assert_eq!(pieces(py, answer).0, [b"abc"]);
        assert_eq!(py.eval(c"F.n", Some(&space), None).unwrap().extract::<i64>().unwrap(), 1);
    });
}

/// Runs `code` with `environ` of a request.
fn with_environ(request: &mut TestRequest, check: impl FnOnce(Python<'_>, &Bound<'_, PyDict>)) {
    attached(|py| {
        let application = application(py, "def app(e, s): pass");
        let environ = application.environ.build(py, &mut request.request()).unwrap();
        check(py, &environ);
    });
}

fn value(environ: &Bound<'_, PyDict>, key: &str) -> Option<String> {
    environ.get_item(key).unwrap().map(|value| value.to_string())
}

#[test]
fn an_environ_has_what_the_pep_asks_for_and_gunicorn_gives() {
    let mut request = TestRequest::new(
        "POST /a%20b/%C3%A4?x=1&y=%20 HTTP/1.1\nHost: example.com:8000\nContent-Type: text/plain\n\
         Content-Length: 4\nX-Twice: 1\nx-twice: 1\nX-Twice: three\nX-Name: z\u{f6}lf\nCookie: a=b\n\nbody",
    );
    with_environ(&mut request, |py, environ| {
        for (key, text) in [
            ("REQUEST_METHOD", "POST"),
            ("RAW_URI", "/a%20b/%C3%A4?x=1&y=%20"),
            ("PATH_INFO", "/a b/\u{c3}\u{a4}"),
            ("QUERY_STRING", "x=1&y=%20"),
            ("SCRIPT_NAME", ""),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "127.0.0.1"),
            ("SERVER_PORT", "8000"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_PORT", "50000"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "4"),
            ("HTTP_HOST", "example.com:8000"),
            ("HTTP_X_TWICE", "1,1,three"),
            ("HTTP_X_NAME", "z\u{c3}\u{b6}lf"),
            ("HTTP_COOKIE", "a=b"),
            ("wsgi.url_scheme", "http"),
            ("wsgi.version", "(1, 0)"),
            ("wsgi.multithread", "False"),
            ("wsgi.multiprocess", "True"),
            ("wsgi.run_once", "False"),
            ("wsgi.input_terminated", "True"),
            ("SERVER_SOFTWARE", rgunicorn_core::SERVER_SOFTWARE),
        ] {
            assert_eq!(value(environ, key).as_deref(), Some(text), "{key}");
        }
        assert_eq!(environ.len(), 23 + 3, "input, errors and file_wrapper besides");
        let input = environ.get_item("wsgi.input").unwrap().unwrap();
        assert_eq!(input.call_method0("read").unwrap().extract::<Vec<u8>>().unwrap(), b"body");
        let check = "from wsgiref.validate import check_environ\nimport warnings";
        let check = run(py, check).unwrap().get_item("check_environ").unwrap().unwrap();
        check.call1((environ,)).unwrap();
    });
}

#[test]
fn targets_of_every_form_become_paths() {
    for (target, path) in
        [("//double//slash", "//double//slash"), ("http://h/x%2Fy", "/x/y"), ("*", "*"), ("/;p=1", "/;p=1")]
    {
        with_environ(&mut TestRequest::new(&format!("GET {target} HTTP/1.0")), |_, environ| {
            assert_eq!(value(environ, "PATH_INFO").as_deref(), Some(path));
            assert_eq!(value(environ, "RAW_URI").as_deref(), Some(target));
            assert_eq!(value(environ, "SERVER_PROTOCOL").as_deref(), Some("HTTP/1.0"));
        });
    }
}

#[test]
fn a_trusted_script_name_is_cut_off_the_path() {
    with_environ(&mut TestRequest::new("GET /site/x HTTP/1.1\nSCRIPT_NAME: /site"), |_, environ| {
        assert_eq!(value(environ, "SCRIPT_NAME").as_deref(), Some("/site"));
        assert_eq!(value(environ, "PATH_INFO").as_deref(), Some("/x"));
        assert_eq!(value(environ, "HTTP_SCRIPT_NAME").as_deref(), Some("/site"));
    });
    attached(|py| {
        let application = application(py, "def app(e, s): pass");
        let mut request = TestRequest::new("GET /other HTTP/1.1\nSCRIPT_NAME: /site");
        let error = application.environ.build(py, &mut request.request()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "The path \"/other\" does not begin with SCRIPT_NAME, which is \"/site\""
        );
    });
}

#[test]
fn behind_a_unix_socket_the_host_names_the_server() {
    let check = |host: &str, scheme: Scheme, name: &str, port: &str| {
        let mut request = TestRequest::new(&format!("GET / HTTP/1.1{host}"));
        request.head.scheme = scheme;
        request.peer = Peer::unix();
        request.server = ServerAddress::Unix("/run/app.sock".into());
        with_environ(&mut request, |_, environ| {
            assert_eq!(value(environ, "SERVER_NAME").as_deref(), Some(name));
            assert_eq!(value(environ, "SERVER_PORT").as_deref(), Some(port));
            assert_eq!(value(environ, "REMOTE_ADDR").as_deref(), Some(""));
            assert_eq!(value(environ, "REMOTE_PORT"), None);
        });
    };
    check("\nHost: example.com", Scheme::Http, "example.com", "80");
    check("\nHost: example.com", Scheme::Https, "example.com", "443");
    check("\nHost: example.com:81", Scheme::Https, "example.com", "81");
    check("", Scheme::Http, "/run/app.sock", "");
}

#[test]
fn a_hundred_thousand_calls_leave_nothing_behind() {
    attached(|py| {
        let code = format!(
            "import sys, gc\ncodes = [b'one', b'two']\n{}",
            app(&format!(
                "environ['wsgi.input'].read()\n{OK}\nreturn [b'hello'] if environ['QUERY_STRING'] else iter(codes)"
            ))
        );
        let application = application(py, &code);
        let mut request = TestRequest::new("GET /x HTTP/1.1\nHost: h\nX-A: 1\nX-A: 2");
        let mut whole = TestRequest::new("GET /x?y HTTP/1.1\nHost: h");
        let mut call = |count: usize| {
            for number in 0..count {
                let request = if number % 2 == 0 { &mut request } else { &mut whole };
                request.body = Body::from(b"abc".to_vec());
                let environ = application.environ.build(py, &mut request.request()).unwrap();
                let answer = application.answer(py, &environ, &mut Recorder::default()).unwrap();
                drop(pieces(py, answer));
            }
        };
        // Other tests allocate at the same time: only the order of magnitude says something.
        let blocks = || -> i64 {
            py.import("gc").unwrap().call_method0("collect").unwrap();
            py.import("sys").unwrap().call_method0("getallocatedblocks").unwrap().extract().unwrap()
        };
        call(1000);
        let before = blocks();
        call(100_000);
        let grown = blocks() - before;
        assert!(grown < 50_000, "{grown} blocks more after 100000 calls");
    });
}
