"""Other services that applications talk to, one route each: every answer is the same on `threads` and `coro`."""

import concurrent.futures
import hashlib
import threading
import time

from serviced import ME, SERVICES, app, once

SLOW = SERVICES["slow"]


# Redis.


@once
def redis_client():
    import redis

    pool = redis.BlockingConnectionPool(max_connections=10, timeout=60, **SERVICES["redis"])
    return redis.Redis(connection_pool=pool)


@app.get("/redis/<int:n>")
def redis(n):
    """A pool smaller than the number of requests, pipelines, and a transaction that is tried again."""
    import redis

    client, key = redis_client(), f"{ME}:{n}"
    client.set(key, "v" * 200_000)
    length = len(client.get(key))
    with client.pipeline() as pipe:
        piped = pipe.delete(key).rpush(key, *range(3)).lrange(key, 0, -1).delete(key).execute()

    def add(pipe):
        value = int(pipe.get(f"{ME}:sum") or 0)
        pipe.multi()
        pipe.set(f"{ME}:sum", value + 1)

    # redis-py's own helper tries without end, which the last of many may need.
    client.transaction(add, f"{ME}:sum", watch_delay=0.001)
    return {"length": length, "piped": [str(answer) for answer in piped]}


@app.get("/redis_sum/<int:n>")
def redis_sum(n):
    return {"sum": int(redis_client().get(f"{ME}:sum"))}


@app.get("/redis_waits/<int:n>")
def redis_waits(n):
    """Waits for an element of a list, in vain and not; a message; a lock."""
    import redis

    client = redis.Redis(**SERVICES["redis"])
    key = f"{ME}:list:{n}"
    nothing = client.blpop(key, timeout=0.02)
    timer = threading.Timer(0.02, client.rpush, [key, n])
    timer.start()
    something = client.blpop(key, timeout=60)[1].decode()
    timer.join()
    with client.pubsub() as messages:
        messages.subscribe(key)
        messages.get_message(timeout=60)
        timer = threading.Timer(0.02, client.publish, [key, "hello"])
        timer.start()
        heard = messages.get_message(timeout=60)["data"].decode()
        timer.join()
    with client.lock(f"{ME}:lock", timeout=60, sleep=0.005):
        inside = client.incr(f"{ME}:inside")
        time.sleep(0.001)
        client.decr(f"{ME}:inside")
    client.close()
    return [nothing, something, heard, inside]


# HTTP over TLS.


@once
def session():
    import requests
    import requests.adapters

    session = requests.Session()
    # Variables of the environment would go before.
    session.trust_env = False
    session.verify = SLOW["certificate"]
    session.mount("https://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=8, pool_block=True))
    return session


@app.get("/requests/<int:n>")
def requests(n):
    """A connection each, then one of a pool of eight that all share; a time-out; a body that is larger than all buffers."""
    import requests

    alone = requests.get(f"{SLOW['url']}/?wait=0.03&size={1000 + n}", verify=SLOW["certificate"], timeout=60)
    shared = session().get(f"{SLOW['url']}/?wait=0.01&size=200000", timeout=60)
    body = bytes([n % 251]) * 300_000
    echoed = session().post(SLOW["url"], data=body, timeout=60).content
    try:
        late = requests.get(f"{SLOW['url']}/?wait=100", verify=SLOW["certificate"], timeout=(10, 0.05)).status_code
    except requests.exceptions.ReadTimeout:
        late = "ReadTimeout"
    try:
        untrusted = requests.get(SLOW["url"], timeout=60).status_code
    except requests.exceptions.SSLError:
        untrusted = "SSLError"
    digest = hashlib.sha256(echoed).hexdigest() == hashlib.sha256(body).hexdigest()
    return [alone.status_code, len(alone.content), len(shared.content), digest, late, untrusted]


@once
def pool_manager():
    import urllib3

    return urllib3.PoolManager(ca_certs=SLOW["certificate"], maxsize=5, block=True)


@app.get("/urllib3/<int:n>")
def urllib3(n):
    """A pool, a response that is streamed, and the threads of an executor that ask together."""
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        asked = [
            executor.submit(pool_manager().request, "GET", f"{SLOW['url']}/?wait=0.01&size={size + n}") for size in (1, 2, 3)
        ]
        sizes = [len(future.result(60).data) for future in concurrent.futures.as_completed(asked, 60)]
    streamed = pool_manager().request("GET", f"{SLOW['url']}/?wait=0.01&size=100000", preload_content=False)
    total = sum(map(len, streamed.stream(8192)))
    streamed.release_conn()
    return [sorted(sizes), total]


# gRPC: threads, conditions and an epoll of its own, in C++.


@once
def grpc_channel():
    """A server in this process, and a channel to it that all share."""
    import grpc

    def unary(request, context):
        time.sleep(0.01)
        return request[::-1]

    def count(request, context):
        for i in range(int(request)):
            time.sleep(0.002)
            yield b"%d" % i

    def echo(requests, context):
        for request in requests:
            yield request.upper()

    def never(request, context):
        while context.is_active():
            time.sleep(0.01)
        return b""

    def fails(request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: " + request.decode())

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Never": grpc.unary_unary_rpc_method_handler(never),
        "Fails": grpc.unary_unary_rpc_method_handler(fails),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(40))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("tests.Service", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, grpc.insecure_channel(f"127.0.0.1:{port}")


@app.get("/grpc/<int:n>")
def grpc(n):
    import grpc

    _, channel = grpc_channel()
    name = "/tests.Service/"
    text = b"request %d" % n
    answers = [channel.unary_unary(name + "Unary")(text, timeout=60).decode()]
    answers.append([piece.decode() for piece in channel.unary_stream(name + "Count")(b"5", timeout=60)])

    def slowly():
        for i in range(3):
            time.sleep(0.003)
            yield b"piece %d of %d" % (i, n)

    answers.append([piece.decode() for piece in channel.stream_stream(name + "Echo")(slowly(), timeout=60)])
    for method, timeout in (("Never", 0.05), ("Fails", 60)):
        try:
            channel.unary_unary(name + method)(text, timeout=timeout)
        except grpc.RpcError as error:
            answers.append([error.code().name, error.details() if method == "Fails" else None])
    called = threading.Event()
    future = channel.unary_unary(name + "Unary").future(text, timeout=60)
    future.add_done_callback(lambda future: called.set())
    answers += [future.result().decode(), called.wait(60)]
    with grpc.insecure_channel("127.0.0.1:1") as nowhere:
        try:
            nowhere.unary_unary(name + "Unary")(text, timeout=60)
        except grpc.RpcError as error:
            answers.append(error.code().name)
    return answers
