//! What developers use: `--reload`, `--spew`; and PasteDeploy files.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::Path;

use rgunicorn_harness::{Builder, Server, on_every_class};

fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn build(directory: &Path) -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn")).directory(directory)
}

const SITE: &str = "import asyncio, helper\n\
    class Site:\n\
    \x20   def __call__(self, *call):\n\
    \x20       return self.wsgi(*call) if len(call) == 2 else self.asgi(*call)\n\
    \x20   def wsgi(self, environ, start_response):\n\
    \x20       start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20       return [helper.word]\n\
    \x20   async def asgi(self, scope, receive, send):\n\
    \x20       await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n\
    \x20       await send({'type': 'http.response.body', 'body': helper.word})\n\
    app = Site()\n";

/// Writes a file as editors do, and waits until the server answers with `word`.
fn change(server: &Server, path: &Path, text: &str, word: &str) {
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
    server.wait_until(&format!("{word:?} is served"), || server.connect().get("/").text().contains(word));
}

on_every_class! {
    fn a_changed_module_is_loaded_anew(class: &str) {
        let directory = site(&[("site1.py", SITE), ("helper.py", "word = b'first'\n")]);
        let server = build(directory.path()).args(["-k", class, "--reload", "site1:app"]).start();
        assert_eq!(server.connect().get("/").text(), "first");
        server.wait_for_log("Reloader is on");
        let helper = directory.path().join("helper.py");
        change(&server, &helper, "word = b'second'\n", "second");
        assert!(server.log().contains("helper.py modified"), "{}", server.log());
        // A mistake is shown to the client, and mended without a restart.
        change(&server, &helper, "word = (b'third'\n", "SyntaxError");
        assert_eq!(server.connect().get("/").status, 500);
        change(&server, &helper, "word = b'fourth'\n", "fourth");
    }
}

#[test]
fn files_are_polled_where_that_is_asked_for_and_extra_ones_watched() {
    let directory = site(&[
        ("site1.py", SITE),
        ("helper.py", "word = open('word.txt', 'rb').read()\n"),
        ("word.txt", "one"),
    ]);
    let arguments = ["--reload", "--reload-engine", "poll", "--reload-extra-file", "*.txt", "site1:app"];
    let server = build(directory.path()).args(["-k", "event"]).args(arguments).start();
    assert_eq!(server.connect().get("/").text(), "one");
    change(&server, &directory.path().join("word.txt"), "three", "three");
    assert!(server.log().contains("word.txt modified"), "{}", server.log());
}

#[test]
fn spew_prints_each_line_in_whatever_thread() {
    for class in ["sync", "threads"] {
        let directory = site(&[("site1.py", SITE), ("helper.py", "word = b'spewed'\n")]);
        let server = build(directory.path()).args(["-k", class, "--spew", "site1:app"]).start();
        assert_eq!(server.connect().get("/").text(), "spewed");
        server.wait_for_log("helper:1: word = b'spewed'");
        server.wait_for_log("site1:7:         return [helper.word]");
        server.wait_for_log("helper=<module 'helper'");
    }
}

#[test]
fn an_application_may_be_described_by_a_paste_file() {
    let code = "def make(global_conf, **local_conf):\n\
        \x20   def app(environ, start_response):\n\
        \x20       start_response('200 OK', [('Content-Type', 'text/plain')])\n\
        \x20       return [f\"{global_conf.get('name')} {local_conf.get('greeting')}\".encode()]\n\
        \x20   return app\n";
    let ini = "[app:main]\npaste.app_factory = pasted:make\ngreeting = hello\n\
        [app:other]\npaste.app_factory = pasted:make\ngreeting = goodbye\n";
    let directory = site(&[("pasted.py", code), ("site.ini", ini)]);
    for (uri, text) in [("site.ini", "a=b hello"), ("site.ini#other", "a=b goodbye")] {
        let arguments = ["--paste", uri, "--paste-global", r"name=a\=b"];
        let server = build(directory.path()).args(arguments).start();
        assert_eq!(server.connect().get("/").text(), text);
    }
    let (status, _, error) = build(directory.path()).args(["--paste", "missing.ini"]).run();
    assert_eq!(status, Some(3), "{error}");
    assert!(error.contains("paste: there is no file") && error.contains("missing.ini"), "{error}");
}
