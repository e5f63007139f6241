//! `environ["wsgi.early_hints"]`: a `103 Early Hints` before the response.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use rgunicorn_harness::{Server, on_wsgi_classes};

fn serve(class: &str) -> Server {
    let server = Server::build(env!("CARGO_BIN_EXE_rgunicorn")).args(["-k", class, "hints:app"]).start();
    server.wait_for_workers(1);
    server
}

on_wsgi_classes! {
    fn hints_come_before_the_response(class: &str) {
        let server = serve(class);
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        let first = client.response();
        assert_eq!(
            first.head,
            "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\
             Link: </app.js>; rel=preload; as=script\r\n\r\n"
        );
        assert_eq!(client.response().head, "HTTP/1.1 103 Early Hints\r\nX-Second: yes\r\n\r\n");
        let page = client.response();
        assert_eq!((page.status, page.text().as_str()), (200, "the page"));

        let mut client = server.connect();
        client.send("GET /generator HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_eq!(client.response().status, 103);
        assert_eq!(client.response().text(), "generated and streamed");
    }

    fn they_are_left_out_where_they_cannot_be(class: &str) {
        let server = serve(class);
        let mut old = server.connect();
        let response = old.send("GET / HTTP/1.0\r\n\r\n").response();
        assert_eq!((response.status, response.text().as_str()), (200, "the page"));
        assert_eq!(server.connect().get("/late").text(), "first,last");
        let refused = server.connect().get("/invalid");
        assert_eq!(refused.status, 200);
        assert!(refused.text().contains("invalid character"), "{}", refused.text());
    }
}
