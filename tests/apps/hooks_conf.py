"""Every server hook, each writing down that it was called and what it was given: a JSON line in the file that RECORD names."""

import json
import os

workers = 1
worker_class = os.environ.get("CLASS", "sync")
threads = 4 if "thread" in worker_class else 1
timeout = int(os.environ.get("TIMEOUT", "30"))
raw_env = ["FROM_THE_FILE=yes"]


def note(hook, **facts):
    # One write, so that lines of several processes don't mix.
    line = json.dumps({"hook": hook, "process": os.getpid(), **facts}) + "\n"
    descriptor = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def of_server(server):
    return {
        "workers": len(server.WORKERS),
        "wanted": server.num_workers,
        "cfg": [server.cfg.workers, server.cfg.timeout, server.cfg.worker_class_str, server.cfg.env, server.cfg.proc_name],
        "mark": getattr(server, "mark", None),
    }


def of_worker(worker):
    return {
        "age": worker.age,
        "booted": worker.booted,
        "alive": worker.alive,
        "cfg": worker.cfg.workers,
        "mark": getattr(worker, "mark", None),
        "environ": os.environ.get("FROM_THE_FILE"),
    }


def on_starting(server):
    server.mark = "marked by on_starting"
    server.log.info("hook on_starting of %s says %s", "the arbiter", "hello")
    note("on_starting", mine=server.pid == os.getpid(), **of_server(server))


def on_reload(server):
    note("on_reload", **of_server(server))


def when_ready(server):
    names = [type(listener.getsockname()[1]).__name__ for listener in server.LISTENERS]
    note("when_ready", listeners=names, **of_server(server))


def pre_fork(server, worker):
    worker.mark = f"marked by pre_fork of {worker.age}"
    note("pre_fork", pid=worker.pid, worker=of_worker(worker), **of_server(server))


def post_fork(server, worker):
    note("post_fork", mine=[worker.pid == os.getpid(), worker.ppid == server.pid], worker=of_worker(worker))


def post_worker_init(worker):
    worker.log.info("hook post_worker_init: worker %s", worker.age)
    note("post_worker_init", application=callable(worker.wsgi) if hasattr(worker, "wsgi") else True, worker=of_worker(worker))


def worker_int(worker):
    note("worker_int", worker=of_worker(worker))


def worker_abort(worker):
    note("worker_abort", age=worker.age)


def pre_exec(server):
    note("pre_exec", mark=server.mark)


def pre_request(worker, req):
    req.headers.append(("X-ADDED", "by pre_request"))
    facts = [req.method, req.uri, req.path, req.query, req.fragment, list(req.version), req.scheme]
    headers = [header for header in req.headers if header[0] not in ("HOST",)]
    if req.path == "/raises":
        raise RuntimeError("raised by pre_request")
    note("pre_request", request=facts, headers=headers, close=req.should_close(), age=worker.age)


def post_request(worker, req, environ, resp):
    keys = ["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "HTTP_X_ADDED", "RAW_URI"]
    answer = None
    if resp is not None:
        answer = [resp.status, [list(header) for header in resp.headers], resp.sent]
    note("post_request", path=req.path, environ={key: environ.get(key) for key in keys}, answer=answer)


def child_exit(server, worker):
    note("child_exit", age=worker.age, mark=worker.mark, known=worker.pid in server.WORKERS)


def worker_exit(server, worker):
    note("worker_exit", mine=worker.pid == os.getpid(), mark=server.mark, age=worker.age)


def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed", new=new_value, old=old_value)


def on_exit(server):
    note("on_exit", **of_server(server))
