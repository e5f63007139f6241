"""What applications wait in, one route each: every answer is the same on `threads` and `coro`."""

import concurrent.futures
import contextvars
import ctypes
import json
import os
import queue
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

variable = contextvars.ContextVar("variable", default=None)
local = threading.local()
lock, rlock = threading.Lock(), threading.RLock()
semaphore = threading.Semaphore(3)
shared = {"inside": 0, "most": 0}


def sleep(n):
    time.sleep(0.05)
    return n


def identity(n):
    """A request's own values survive its waits, whoever runs meanwhile, and are gone after it."""
    before = (getattr(local, "n", None), variable.get())
    local.n, ident = n, threading.get_ident()
    variable.set(n)
    try:
        raise KeyError(n)
    except KeyError:
        time.sleep(0.02)
        kept = sys.exc_info()[1].args[0] == n
    return [before, local.n == n, variable.get() == n, threading.get_ident() == ident, kept]


def locked(n):
    """Never more than one at a time behind a lock, though each waits there."""
    with lock, rlock, rlock:
        shared["inside"] += 1
        shared["most"] = max(shared["most"], shared["inside"])
        time.sleep(0.002)
        shared["inside"] -= 1
    with semaphore:
        time.sleep(0.001)
    return shared["most"]


def queued(n):
    """A real thread and this request talk by queues, conditions and events."""
    asked, answered, event = queue.Queue(1), queue.Queue(1), threading.Event()

    def work():
        value = asked.get()
        event.set()
        time.sleep(0.01)
        answered.put(value * 2)

    thread = threading.Thread(target=work)
    thread.start()
    asked.put(n)
    event.wait(60)
    value = answered.get(timeout=60)
    thread.join()
    try:
        answered.get(timeout=0.01)
    except queue.Empty:
        return value


def futures(n):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        timer = threading.Timer(0.01, lambda: None)
        timer.start()
        timer.join()
        barrier = threading.Barrier(2)
        return sorted(pool.map(lambda x: (barrier.wait(60), time.sleep(0.01), x + n)[2], range(2)))


def sockets(n):
    """Both directions at once, more than fits into the kernel's buffers."""
    a, b = socket.socketpair()
    data = bytes([n % 251]) * 1_000_000
    thread = threading.Thread(target=lambda: (b.sendall(b.recv(10) * 100_000), b.close()))
    a.sendall(data[:10])
    thread.start()
    got = bytearray()
    while piece := a.recv(65536):
        got += piece
    thread.join()
    a.close()
    return got == data


def served(n):
    """Accepts, connects and resolves, with time-outs and without."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: socket.create_connection(server.getsockname(), 60).sendall(b"%d" % n))
        thread.start()
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            text = connection.recv(100, socket.MSG_WAITALL)
        thread.join()
        server.settimeout(0.01)
        try:
            server.accept()
        except TimeoutError:
            return [text.decode(), socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4]]


def pipes(n):
    """Pipes block both ways; a closed end is an end."""
    r, w = os.pipe()
    thread = threading.Thread(target=lambda: (time.sleep(0.01), os.write(w, b"x" * 300_000), os.close(w)))
    thread.start()
    got = 0
    while piece := os.read(r, 65536):
        got += len(piece)
    thread.join()
    os.close(r)
    return got


def selected(n):
    """select, poll and epoll, that time out and that don't."""
    a, b = socket.socketpair()
    answers = [select.select([a], [], [], 0.01)[0] == [], len(select.select([a], [b], [], 60)[1])]
    poll = select.poll()
    poll.register(a, select.POLLIN)
    answers.append(poll.poll(10))
    epoll = select.epoll()
    epoll.register(a, select.EPOLLIN)
    answers.append(epoll.poll(0.01))
    timer = threading.Timer(0.02, b.send, [b"x"])
    timer.start()
    answers += [len(select.select([a], [], [], 60)[0]), len(poll.poll(60_000)), len(epoll.poll(60))]
    timer.join()
    epoll.close(), a.close(), b.close()
    return answers


def processes(n):
    done = subprocess.run(["sh", "-c", f"sleep 0.02; echo {n}; exit 3"], capture_output=True, text=True)
    child = os.fork()
    if child == 0:
        time.sleep(0.01)
        os._exit(7)
    _, status = os.waitpid(child, 0)
    return [done.stdout, done.returncode, os.waitstatus_to_exitcode(status)]


def filelocks(n):
    import fcntl

    with tempfile.TemporaryFile() as file, open(file.fileno(), closefd=False) as again:
        other = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.02, fcntl.flock, [other, fcntl.LOCK_UN])
        timer.start()
        fcntl.flock(file, fcntl.LOCK_EX)
        timer.join()
        os.close(other)
        os.fsync(file.fileno())
        return again.fileno() == file.fileno()


common = tempfile.TemporaryFile()


def filelocked(n):
    """More wait for a file's lock than there are helpers, one of which the holder needs."""
    import fcntl

    with open(f"/proc/self/fd/{common.fileno()}", "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        shared["inside"] += 1
        alone = shared["inside"] == 1
        file.write(b"x")
        os.fsync(file.fileno())
        found = socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4]
        shared["inside"] -= 1
        fcntl.flock(file, fcntl.LOCK_UN)
        return [alone, found]


def recursion(n):
    """Deep recursion, in Python and in C, is an exception."""

    def deeper():
        return deeper()

    answers = []
    for what in (deeper, lambda: json.loads("[" * 100_000)):
        try:
            what()
        except RecursionError:
            answers.append("RecursionError")
    return answers


def callbacks(n):
    """C calls Python back in the middle of its work, and that waits."""
    numbers = (ctypes.c_int * 5)(5, 3, 4, 1, 2)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))

    def compare(a, b):
        time.sleep(0.001)
        return a[0] - b[0]

    ctypes.CDLL(None).qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), kind(compare))
    return list(numbers)


def loops(n):
    import asyncio

    async def main():
        async def one(x):
            await asyncio.sleep(0.01)
            return x

        thread = await asyncio.to_thread(lambda: (time.sleep(0.01), n)[1])
        return [thread, await asyncio.gather(*map(one, range(3)))]

    return asyncio.run(main())


def generators(n):
    def numbers():
        for i in range(3):
            time.sleep(0.005)
            yield i + n

    return list(numbers())


def closed(n):
    """A descriptor that is closed under one that waits for it, and whose number another file gets."""
    r, w = os.pipe()
    new_r, new_w = os.pipe()
    timer = threading.Timer(0.02, os.dup2, [new_r, r])
    timer.start()
    answers = [select.select([r], [], [], 0.1)[0]]
    timer.join()
    # Whoever waits for the new one gets what comes there, and nothing of the other.
    os.close(new_r)
    timer = threading.Timer(0.02, os.write, [new_w, b"here"])
    timer.start()
    answers.append(os.read(r, 10).decode())
    timer.join()
    timer = threading.Timer(0.02, os.close, [r])
    timer.start()
    try:
        select.select([r], [], [], 0.1)
    except OSError:
        # It may be noticed or not; the wait must end.
        pass
    timer.join()
    os.close(w), os.close(new_w)
    return answers


libc = ctypes.CDLL(None)
mutex, attributes = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
libc.pthread_mutexattr_init(attributes)
libc.pthread_mutexattr_settype(attributes, 1)
libc.pthread_mutex_init(mutex, attributes)
inside = []


def recursive(n):
    """A recursive mutex of C's has one owner, which may take it again."""
    taken = [libc.pthread_mutex_lock(mutex), libc.pthread_mutex_trylock(mutex)]
    inside.append(n)
    time.sleep(0.002)
    alone = inside == [n]
    inside.remove(n)
    return [*taken, alone, libc.pthread_mutex_unlock(mutex), libc.pthread_mutex_unlock(mutex)]


def masked(n):
    """ppoll with a signal mask."""
    a, b = socket.socketpair()
    polled = ctypes.create_string_buffer(a.fileno().to_bytes(4, "little") + b"\x01\0\0\0", 8)
    mask = ctypes.create_string_buffer(128)
    soon = ctypes.create_string_buffer((0).to_bytes(8, "little") + (30_000_000).to_bytes(8, "little"), 16)
    answers = [libc.ppoll(polled, 1, soon, mask)]
    timer = threading.Timer(0.01, b.send, [b"x"])
    timer.start()
    answers.append(libc.ppoll(polled, 1, None, mask))
    timer.join()
    a.close(), b.close()
    return answers


def timespec(seconds):
    return ctypes.create_string_buffer(int(seconds).to_bytes(8, "little") + int(seconds % 1 * 1e9).to_bytes(8, "little"), 16)


def sleeps(n):
    """C's own ways to sleep; each takes its time, and all together no more than that."""
    began = time.monotonic()
    answers = [libc.usleep(10_000), libc.nanosleep(timespec(0.01), None), libc.sleep(0), libc.sched_yield()]
    answers.append(libc.clock_nanosleep(1, 1, timespec(time.monotonic() + 0.01), None))
    answers.append(libc.nanosleep(timespec(0)[:8] + b"\xff" * 8, None))
    return answers, time.monotonic() - began >= 0.029


def messages(n):
    """Vectors and messages, datagrams, files, descriptors, and a time-out that the socket was given."""
    a, b = socket.socketpair()
    timers = []

    def soon(function, *arguments):
        timers.append(threading.Timer(0.005, function, arguments))
        timers[-1].start()

    into = bytearray(3), bytearray(10)
    soon(b.sendmsg, [b"in ", b"two"])
    answers = [os.readv(a.fileno(), into), bytes(into[1][:3]).decode()]
    soon(os.writev, b.fileno(), [b"as one ", b"message"])
    answers.append(a.recvmsg(100, 100)[0].decode())
    soon(b.sendmsg, [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, a.fileno().to_bytes(4, "little"))])
    _, [(_, kind, passed)], _, _ = a.recvmsg(1, 100)
    os.close(int.from_bytes(passed, "little"))
    answers.append(kind == socket.SCM_RIGHTS)
    soon(b.send, b"into")
    answers.append([a.recvmsg_into([bytearray(2), bytearray(2)])[0], n])
    with tempfile.TemporaryFile() as file:
        file.write(b"z" * 1_000_000), file.seek(0)
        read = []
        reader = threading.Thread(target=lambda: read.extend(iter(lambda: len(b.recv(65536)), 0)))
        reader.start()
        # More than the socket takes at once.
        answers.append(a.sendfile(file))
        a.shutdown(socket.SHUT_WR)
        reader.join()
    answers.append(sum(read))
    a.close(), b.close()
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        soon(two.sendto, b"datagram", one.getsockname())
        answers.append(one.recvfrom(100)[0].decode())
        # In microseconds.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, (0).to_bytes(8, "little") + (10_000).to_bytes(8, "little"))
        try:
            one.recv(100)
        except BlockingIOError:
            answers.append("in time")
    for timer in timers:
        timer.join()
    return answers


def semaphores(n):
    """C's semaphores, and those between processes; conditions of C's that time out."""
    import multiprocessing

    mine, answers = ctypes.create_string_buffer(32), []
    libc.sem_init(mine, 0, 0)
    timer = threading.Timer(0.005, libc.sem_post, [mine])
    timer.start()
    answers.append(libc.sem_wait(mine))
    timer.join()
    answers += [libc.sem_timedwait(mine, timespec(time.time() + 0.005)), libc.sem_trywait(mine)]
    mutex, condition = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    answers.append(libc.pthread_cond_timedwait(condition, mutex, timespec(time.time() + 0.005)))
    answers.append(libc.pthread_mutex_trylock(mutex) != 0)
    libc.pthread_mutex_unlock(mutex)
    shared = multiprocessing.get_context("fork").Semaphore(0)
    timer = threading.Timer(0.005, shared.release)
    timer.start()
    answers += [shared.acquire(), shared.acquire(True, 0.005)]
    timer.join()
    return answers


together = {}


def several(n, count):
    """Waits until `count` requests are here, of which this is one; answers what they share. They come in order."""
    with lock:
        group = together.setdefault(n // count, {"here": 0, "all": threading.Event(), "pair": socket.socketpair()})
        group["here"] += 1
        if group["here"] == count:
            group["all"].set()
            del together[n // count]
    assert group["all"].wait(60)
    return group


def crowded(n):
    """Ten requests wait for one descriptor, and each gets one of ten bytes."""
    group = several(n, 10)
    a, b = group["pair"]
    if n % 10 == 0:
        for i in range(10):
            time.sleep(0.002)
            b.send(bytes([i]))
    got = a.recv(1)
    with lock:
        group.setdefault("got", []).append(got[0])
    until = time.monotonic() + 60
    while len(group["got"]) < 10 and time.monotonic() < until:
        time.sleep(0.001)
    return sorted(group["got"])


def both(n):
    """One request writes more than fits, and another reads from the same descriptor meanwhile."""
    group = several(n, 2)
    a, b = group["pair"]
    if n % 2 == 0:
        a.sendall(b"x" * 2_000_000)
        a.shutdown(socket.SHUT_WR)
        return "written"

    def other():
        time.sleep(0.02)
        b.send(b"read")
        got = 0
        while piece := b.recv(65536):
            got += len(piece)
        b.send(str(got).encode())

    thread = threading.Thread(target=other)
    thread.start()
    first = a.recv(4).decode()
    thread.join()
    return [first, a.recv(100).decode()]


def races(n):
    """What is waited for comes just when the time is up: it is had, now or the next time, and only once."""
    answers = []
    a, b = socket.socketpair()
    for i in range(20):
        event = threading.Event()
        timer = threading.Timer(0.003, lambda i=i: (b.send(bytes([i])), event.set()))
        timer.start()
        readable = select.select([a], [], [], 0.003 + 0.0001 * (i % 5))[0]
        told = event.wait(0.0001)
        got = a.recv(10)
        timer.join()
        answers.append(got == bytes([i]) and event.is_set() and (not told or bool(got)) and readable in ([], [a]))
    a.setblocking(False)
    try:
        answers.append(a.recv(10))
    except BlockingIOError:
        pass
    a.close(), b.close()
    return answers


def held(n):
    """A real thread waits for what a request holds, through its waits; and the other way round."""
    mine, recursive, seen = threading.Lock(), threading.RLock(), []

    def other():
        with mine, recursive:
            seen.append("thread")
            time.sleep(0.005)

    thread = threading.Thread(target=other)
    with mine, recursive:
        thread.start()
        time.sleep(0.005)
        seen.append("request")
    time.sleep(0.001)
    with mine, recursive:
        seen.append("request")
    thread.join()
    return sorted(seen), seen[0]


def foreign(n):
    """cffi has C call Python back, which waits."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("void qsort(void *, size_t, size_t, int (*)(const void *, const void *));")
    numbers = ffi.new("int[]", [5, 3, 4, 1, 2])

    @ffi.callback("int(const void *, const void *)")
    def compare(a, b):
        time.sleep(0.001)
        return ffi.cast("int *", a)[0] - ffi.cast("int *", b)[0]

    ffi.dlopen(None).qsort(numbers, 5, ffi.sizeof("int"), compare)
    return list(numbers)


rwlock = ctypes.create_string_buffer(64)
libc.pthread_rwlock_init(rwlock, None)
readers, writers = [], []


def rwlocked(n):
    """Locks of C's for readers and writers, held through waits, by requests and by threads."""
    answers = []

    def read():
        answers.append(libc.pthread_rwlock_rdlock(rwlock))
        readers.append(n)
        time.sleep(0.002)
        answers.append(len(writers))
        readers.remove(n)
        libc.pthread_rwlock_unlock(rwlock)

    def write():
        answers.append(libc.pthread_rwlock_wrlock(rwlock))
        writers.append(n)
        time.sleep(0.001)
        answers.append(len(readers) + len(writers))
        writers.remove(n)
        libc.pthread_rwlock_unlock(rwlock)

    for work in (read, write):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
    mine, soon = ctypes.create_string_buffer(64), ctypes.create_string_buffer(16)
    libc.pthread_rwlock_init(mine, None)
    libc.pthread_rwlock_rdlock(mine)
    # A time that is over.
    answers.append(libc.pthread_rwlock_timedwrlock(mine, soon))
    libc.pthread_rwlock_unlock(mine)
    return answers


def commands(n):
    """The C library runs a shell."""
    return os.waitstatus_to_exitcode(os.system(f"sleep 0.05; exit {n}"))


condition, turns, meeting = threading.Condition(), [], threading.Barrier(10)
executor = concurrent.futures.ThreadPoolExecutor(4)


def conditions(n):
    """Requests and a thread take turns behind one condition, all woken up each time."""
    with condition:
        turns.append(n)
        condition.notify_all()

    def other():
        with condition:
            turns.append(-n)
            condition.notify_all()

    thread = threading.Thread(target=other)
    thread.start()
    with condition:
        both = condition.wait_for(lambda: n in turns and -n in turns, 60)
        never = condition.wait_for(lambda: False, 0.01)
        turns.remove(n), turns.remove(-n)
    thread.join()
    return [both, never]


def barriers(n):
    """Ten requests at a time meet, as often as there are ten."""
    time.sleep(0.001 * (n % 5))
    meeting.wait(60)
    return meeting.broken


def executors(n):
    """All requests share four threads, and wait for the first, for all, and in vain."""
    asked = [executor.submit(lambda x: (time.sleep(0.001 * x), x + n)[1], x) for x in range(4)]
    first, _ = concurrent.futures.wait(asked, 60, concurrent.futures.FIRST_COMPLETED)
    results = sorted(future.result(60) for future in concurrent.futures.as_completed(asked, 60))
    never, called = concurrent.futures.Future(), threading.Event()
    asked[0].add_done_callback(lambda future: called.set())
    try:
        never.result(0.01)
    except concurrent.futures.TimeoutError:
        return [len(first) > 0, results, called.wait(60)]


def timers(n):
    """Timers that run, that are cancelled, and an event that all wait for."""
    ran, event = [], threading.Event()
    after = (0, 0.005, 0.01, 60)
    several = [threading.Timer(after[i], lambda i=i: (ran.append(i), ran[2:] and event.set())) for i in range(4)]
    for timer in several:
        timer.start()
    several[3].cancel()
    waiting = [threading.Thread(target=event.wait) for _ in range(2)]
    for thread in waiting:
        thread.start()
    for thread in several + waiting:
        thread.join(60)
    return [sorted(ran), event.is_set(), any(thread.is_alive() for thread in waiting)]


def multiprocessed(n):
    """A child of multiprocessing's, forked in a thread that threading knows, ends well and brings a result. One at a time:
    multiprocessing loses the status of a child that another thread happens to look for."""
    import multiprocessing

    threading.current_thread()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    with lock:
        child = context.Process(target=lambda: there.send(n * 2))
        child.start()
        answer = here.recv()
        child.join()
    here.close(), there.close()
    return [answer, child.exitcode]


libc.pthread_getspecific.restype = ctypes.c_void_p
libc.pthread_setspecific.argtypes = ctypes.c_uint, ctypes.c_void_p
key = ctypes.c_uint()
libc.pthread_key_create(ctypes.byref(key), None)


def natives(n):
    """What C code keeps for a thread under a key survives the waits; a key that is made anew begins empty."""
    libc.pthread_setspecific(key, n + 1)
    mine, answers = ctypes.c_uint(), []
    libc.pthread_key_create(ctypes.byref(mine), None)
    answers.append(libc.pthread_getspecific(mine))
    libc.pthread_setspecific(mine, n + 2)
    time.sleep(0.01)
    answers += [libc.pthread_getspecific(key) == n + 1, libc.pthread_getspecific(mine) == n + 2]
    libc.pthread_key_delete(mine)
    return answers


libc.pthread_detach.argtypes = libc.pthread_cancel.argtypes = [ctypes.c_ulong]
libc.pthread_join.argtypes = libc.pthread_tryjoin_np.argtypes = ctypes.c_ulong, ctypes.c_void_p
libc.pthread_setschedprio.argtypes = ctypes.c_ulong, ctypes.c_int
libc.pthread_timedjoin_np.argtypes = ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p
libc.pthread_clockjoin_np.argtypes = ctypes.c_ulong, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def until_told(descriptor):
    os.read(descriptor, 1)
    return 0


def joined(n):
    """Threads of C's are joined, waited for and let go."""
    ends, tell = os.pipe()
    begun = []
    for _ in range(4):
        begun.append(ctypes.c_ulong())
        libc.pthread_create(ctypes.byref(begun[-1]), None, until_told, ctypes.c_void_p(ends))
    first, second, third, fourth = begun
    soon = time.CLOCK_REALTIME, time.CLOCK_MONOTONIC
    soon = [timespec(time.clock_gettime(clock) + 0.02) for clock in soon]
    answers = [libc.pthread_tryjoin_np(first, None), libc.pthread_timedjoin_np(first, None, soon[0])]
    answers += [libc.pthread_clockjoin_np(first, None, time.CLOCK_MONOTONIC, soon[1]), libc.pthread_detach(fourth)]
    os.write(tell, b"1234")
    late = [timespec(time.clock_gettime(clock) + 60) for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC)]
    answers += [libc.pthread_timedjoin_np(first, None, late[0]), libc.pthread_join(third, None)]
    answers += [libc.pthread_clockjoin_np(second, None, time.CLOCK_MONOTONIC, late[1])]
    os.close(ends), os.close(tell)
    return answers


def itself(n):
    """What may be asked about oneself as a thread: on `coro` only, where others would end or be let go by it."""
    me, soon = threading.get_ident(), timespec(time.time() + 0.01)
    answers = [libc.pthread_detach(me), libc.pthread_cancel(me), libc.pthread_setschedprio(me, 0)]
    answers += [libc.pthread_join(me, None), libc.pthread_tryjoin_np(me, None), libc.pthread_timedjoin_np(me, None, soon)]
    answers += [libc.pthread_clockjoin_np(me, None, time.CLOCK_REALTIME, soon)]
    time.sleep(0.01)
    return answers + [threading.get_ident() == me]


def app(environ, start_response):
    name, _, n = environ["PATH_INFO"][1:].partition("/")
    body = json.dumps(globals()[name](int(n))).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
