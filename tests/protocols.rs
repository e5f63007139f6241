//! Applications of one protocol under classes for the other: told when they are loaded, and put right where nobody has asked
//! for another class.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use nix::sys::signal::Signal;
use rgunicorn_harness::{Builder, Server, assert_has, on_wsgi_classes};

fn build() -> Builder {
    Server::build(env!("CARGO_BIN_EXE_rgunicorn"))
}

on_wsgi_classes! {
    fn an_asgi_application_is_told_which_class_it_needs(class: &str) {
        let (status, _, said) = build().args(["-k", class, "asgi:app"]).run();
        assert_eq!(status, Some(3), "{said}");
        let told = format!("is an ASGI application, and class {class} serves WSGI applications: class asgi runs it");
        assert_has(&said, ["<function app at ", &told]);
        // Loaded before there are workers it is as well.
        for argument in ["--preload", "--check-config"] {
            let (status, _, said) = build().args([argument, "-k", class, "asgi:app"]).run();
            assert_eq!(status, Some(1), "{said}");
            assert!(said.contains("is an ASGI application") && !said.contains("Booting worker"), "{said}");
        }
    }
}

#[test]
fn a_check_tells_the_other_way_round_as_well() {
    let (status, _, said) = build().args(["--check-config", "-k", "asgi", "asgi:wsgi"]).run();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("takes two arguments, as a WSGI application does"), "{said}");
    for class in [&[][..], &["-k", "asgi"]] {
        let (status, _, said) =
            build().args(["--check-config", "asgi:app"]).args(class.iter().copied()).run();
        assert_eq!(status, Some(0), "{said}");
    }
}

#[test]
fn where_no_class_was_asked_for_it_is_asgi() {
    let told =
        "The application is one of ASGI, and no worker class was asked for: it is served by class asgi";
    for arguments in [&[][..], &["--preload"], &["--threads", "4"], &["--reload"], &["--access-logfile", "-"]]
    {
        let server = build().args(arguments.iter().copied()).args(["-w", "2", "asgi:app"]).start();
        server.wait_for_log(told);
        server.wait_for_log("lifespan: started");
        let mut client = server.connect();
        assert_eq!(client.get("/").text(), "hello\n", "{arguments:?}");
        // Several at a time, as class `asgi` has them.
        let mut others: Vec<_> = (0..4).map(|_| server.connect()).collect();
        for other in &mut others {
            other.send("GET /sleep?0.2 HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for other in &mut others {
            assert_eq!(other.response().text(), "slept\n");
        }
        server.signal(Signal::SIGHUP);
        server.wait_for_log_times("lifespan: started", 4);
        assert_eq!(server.connect().get("/").text(), "hello\n");
    }
    // One of WSGI is served as ever, and one that is both is one of WSGI.
    for application in ["forms:app", "promises:app"] {
        let server = build().args([application]).start();
        server.connect().get("/");
        assert!(!server.log().contains("ASGI"), "{}", server.log());
        assert!(server.log().contains("Using worker: sync"), "{}", server.log());
    }
}
