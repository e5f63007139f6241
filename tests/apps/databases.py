"""Real drivers of real databases, one route each, with what applications do with them: every answer is the same on
`threads` and `coro`."""

import asyncio
import io
import select
import threading
import time

from serviced import ME, SERVICES, app, once

PG = SERVICES["postgresql"]
DSN = " ".join(f"{name}={value}" for name, value in PG.items())
URL = f"{PG['user']}@{PG['host']}:{PG['port']}/{PG['dbname']}"


# psycopg2: libpq in C, which waits in poll() of its own.


def psycopg2_connect():
    import psycopg2

    return psycopg2.connect(DSN, application_name=threading.current_thread().name)


@once
def psycopg2_table():
    connection = psycopg2_connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"create table p2_{ME} (id int primary key, value int)")
        cursor.execute(f"insert into p2_{ME} values (0, 0)")
    connection.close()
    return f"p2_{ME}"


@once
def psycopg2_pool():
    import psycopg2.pool

    return psycopg2.pool.ThreadedConnectionPool(2, 60, DSN)


@app.get("/psycopg2/<int:n>")
def psycopg2(n):
    """One slow query, and one with more rows than fit into any buffer."""
    connection = psycopg2_connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("select pg_sleep(0.03), %s, current_user", (n,))
        answer = cursor.fetchone()[1:]
        cursor.execute("select repeat('x', 1000) from generate_series(1, 300)")
        length = sum(len(row[0]) for row in cursor)
    connection.close()
    return {"answer": answer, "length": length, "closed": connection.closed}


@app.get("/psycopg2_counter/<int:n>")
def psycopg2_counter(n):
    """A row's lock is waited for in the server; no update is lost, and an answer is the number of its own update."""
    connection = psycopg2_connect()
    table = psycopg2_table()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"select value from {table} where id = 0 for update")
        (before,) = cursor.fetchone()
        time.sleep(0.001)
        cursor.execute(f"update {table} set value = %s where id = 0 returning value", (before + 1,))
        (after,) = cursor.fetchone()
    connection.close()
    return {"one more": after == before + 1}


@app.get("/psycopg2_count/<int:n>")
def psycopg2_count(n):
    connection = psycopg2_connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"select value from {psycopg2_table()} where id = 0")
        answer = cursor.fetchone()[0]
    connection.close()
    return {"count": answer}


@app.get("/psycopg2_pooled/<int:n>")
def psycopg2_pooled(n):
    connection = psycopg2_pool().getconn()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("select pg_sleep(0.01), %s", (n,))
            return {"answer": cursor.fetchone()[1]}
    finally:
        psycopg2_pool().putconn(connection)


@app.get("/psycopg2_errors/<int:n>")
def psycopg2_errors(n):
    """What fails is an exception of the right kind, in the right request."""
    import psycopg2
    import psycopg2.errors

    answers = []
    connection = psycopg2_connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        try:
            cursor.execute("set statement_timeout = 30")
            cursor.execute("select pg_sleep(5)")
        except psycopg2.Error as error:
            answers.append(type(error).__name__)
        cursor.execute("reset statement_timeout")
        for query in (f"select {n} / 0", "select nonsense", f"insert into {psycopg2_table()} values (0, 1)"):
            try:
                cursor.execute(query)
            except psycopg2.Error as error:
                answers.append(type(error).__name__)
    connection.close()
    try:
        psycopg2.connect(DSN + " dbname=nowhere")
    except psycopg2.OperationalError as error:
        answers.append("nowhere" in str(error))
    return answers


@app.get("/psycopg2_copy/<int:n>")
def psycopg2_copy(n):
    connection = psycopg2_connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("create temporary table copied (id int, text text)")
        lines = "".join(f"{i}\t{'y' * 100}\n" for i in range(5000))
        cursor.copy_expert("copy copied from stdin", io.StringIO(lines))
        back = io.StringIO()
        cursor.copy_expert("copy copied to stdout", back)
    connection.close()
    return {"same": back.getvalue() == lines}


@app.get("/psycopg2_notify/<int:n>")
def psycopg2_notify(n):
    """LISTEN, and select() on the connection's descriptor until somebody else says something."""
    listener, speaker = psycopg2_connect(), psycopg2_connect()
    for connection in (listener, speaker):
        connection.autocommit = True
    channel = f"channel_{ME}_{n}"
    listener.cursor().execute(f"listen {channel}")
    timer = threading.Timer(0.02, speaker.cursor().execute, [f"notify {channel}, '{n}'"])
    timer.start()
    readable = select.select([listener], [], [], 60)[0]
    listener.poll()
    timer.join()
    heard = [notify.payload for notify in listener.notifies]
    listener.close(), speaker.close()
    return {"readable": len(readable), "heard": heard}


# psycopg 3: its C part asks, Python waits, in select() or poll().


@once
def psycopg_pool():
    import psycopg_pool

    return psycopg_pool.ConnectionPool(DSN, min_size=2, max_size=8, timeout=60, open=True)


@app.get("/psycopg/<int:n>")
def psycopg(n):
    import psycopg

    with psycopg.connect(DSN) as connection:
        slept, answer = connection.execute("select pg_sleep(0.03), %s::int", (n,)).fetchone()
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (i,)) for i in range(5)]
        piped = [cursor.fetchone()[0] for cursor in cursors]
        with connection.cursor().copy("copy (select generate_series(1, 20000)) to stdout") as copy:
            total = sum(int(row) for block in copy for row in bytes(block).split())
    return {"answer": answer, "piped": piped, "total": total}


@app.get("/psycopg_pooled/<int:n>")
def psycopg_pooled(n):
    """More requests than connections: they wait for one, behind conditions and the pool's own worker threads."""
    with psycopg_pool().connection() as connection:
        return {"answer": connection.execute("select pg_sleep(0.01), %s::int", (n,)).fetchone()[1]}


@app.get("/psycopg_async/<int:n>")
def psycopg_async(n):
    import psycopg

    async def ask(i):
        async with await psycopg.AsyncConnection.connect(DSN) as connection:
            cursor = await connection.execute("select pg_sleep(0.01), %s::int", (i + n,))
            return (await cursor.fetchone())[1]

    async def main():
        return await asyncio.gather(*map(ask, range(3)))

    return asyncio.run(main())


# SQLAlchemy, whose asyncio part switches between greenlets.


@once
def engine():
    import sqlalchemy

    return sqlalchemy.create_engine(f"postgresql+psycopg2://{URL}", pool_size=5, max_overflow=5, pool_timeout=60)


@once
def sqlalchemy_model():
    import sqlalchemy.orm as orm

    class Base(orm.DeclarativeBase):
        pass

    class Item(Base):
        __tablename__ = f"items_{ME}"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        name: orm.Mapped[str]

    Base.metadata.create_all(engine_unlocked())
    return Item


def engine_unlocked():
    import sqlalchemy

    return sqlalchemy.create_engine(f"postgresql+psycopg2://{URL}")


@app.get("/sqlalchemy/<int:n>")
def sqlalchemy(n):
    """Thirty at a time share ten connections."""
    import sqlalchemy
    import sqlalchemy.orm

    with engine().connect() as connection:
        answer = connection.execute(sqlalchemy.text("select pg_sleep(0.01), :n"), {"n": n}).one()[1]
    Item = sqlalchemy_model()
    with sqlalchemy.orm.Session(engine()) as session, session.begin():
        item = Item(name=f"item {n}")
        session.add(item)
        session.flush()
        found = session.scalars(sqlalchemy.select(Item).where(Item.id == item.id)).one().name
        session.delete(item)
    return {"answer": int(answer), "found": found}


@app.get("/sqlalchemy_async/<int:n>")
def sqlalchemy_async(n):
    """`greenlet` under asyncio, on top of whatever runs this."""
    import sqlalchemy
    import sqlalchemy.ext.asyncio as bridge
    import sqlalchemy.pool

    async def main():
        engine = bridge.create_async_engine(f"postgresql+psycopg://{URL}", poolclass=sqlalchemy.pool.NullPool)

        async def ask(i):
            async with bridge.AsyncSession(engine) as session:
                one = (await session.execute(sqlalchemy.text("select pg_sleep(0.01), :n"), {"n": n + i})).one()[1]
                return int(one), await session.run_sync(lambda session: type(session).__name__)

        try:
            return await asyncio.gather(*map(ask, range(3)))
        finally:
            await engine.dispose()

    return asyncio.run(main())


@app.get("/greenlets/<int:n>")
def greenlets(n):
    """Greenlets of each request's own, which it switches between while others wait in theirs."""
    import greenlet

    def child(x):
        while x is not None:
            time.sleep(0.003)
            x = greenlet.getcurrent().parent.switch([x, n])
        return "over"

    one, two = greenlet.greenlet(child), greenlet.greenlet(child)
    answers = []
    for i in range(4):
        answers += [one.switch(i), two.switch(-i)]
        time.sleep(0.002)
    answers += [one.switch(None), two.switch(None), one.dead, two.dead, greenlet.getcurrent().parent is None]
    return answers


# Django's ORM, in Django.


@once
def django():
    import django
    import django.conf
    from django.core.wsgi import get_wsgi_application
    from django.db import connection, models, transaction
    from django.http import JsonResponse
    from django.urls import path

    database = {"ENGINE": "django.db.backends.postgresql", "USER": PG["user"], "NAME": PG["dbname"]}
    django.conf.settings.configure(
        SECRET_KEY="of no use",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        DATABASES={"default": {**database, "HOST": PG["host"], "PORT": PG["port"]}},
    )
    django.setup()

    class Entry(models.Model):
        title = models.CharField(max_length=100)

        class Meta:
            app_label = "tests"
            db_table = f"entries_{ME}"

    with connection.schema_editor() as editor:
        editor.create_model(Entry)
    connection.close()

    def entries(request, n):
        class Undo(Exception):
            pass

        with transaction.atomic():
            Entry.objects.bulk_create(Entry(title=f"{n}-{i}") for i in range(5))
        try:
            with transaction.atomic():
                Entry.objects.filter(title__startswith=f"{n}-").delete()
                time.sleep(0.005)
                raise Undo
        except Undo:
            pass
        with connection.cursor() as cursor:
            cursor.execute("select pg_sleep(0.01)")
        titles = list(Entry.objects.filter(title__startswith=f"{n}-").order_by("title").values_list("title", flat=True))
        gone, _ = Entry.objects.filter(title__startswith=f"{n}-").delete()
        return JsonResponse({"titles": titles, "gone": gone, "in": connection.in_atomic_block})

    globals()["urlpatterns"] = [path("<int:n>", entries)]
    return get_wsgi_application()


# PyMySQL: the protocol in Python, on a socket.


@once
def mariadb_table():
    connection = mariadb_connect()
    with connection.cursor() as cursor:
        cursor.execute("create database if not exists test_" + ME)
        cursor.execute(f"create table test_{ME}.counted (value int) engine=innodb")
        cursor.execute(f"insert into test_{ME}.counted values (0)")
    connection.commit()
    connection.close()
    return f"test_{ME}.counted"


def mariadb_connect():
    import pymysql

    return pymysql.connect(**SERVICES["mariadb"], autocommit=False)


@app.get("/pymysql/<int:n>")
def pymysql(n):
    table = mariadb_table()
    connection = mariadb_connect()
    with connection.cursor() as cursor:
        cursor.execute("select sleep(0.02), %s, repeat('z', 100000)", (n,))
        _, answer, text = cursor.fetchone()
        cursor.execute(f"select value from {table} for update")
        (before,) = cursor.fetchone()
        cursor.execute(f"update {table} set value = value + 1")
        cursor.execute(f"select value from {table}")
        (after,) = cursor.fetchone()
    connection.commit()
    connection.close()
    return {"answer": answer, "length": len(text), "one more": after == before + 1}


@app.get("/pymysql_count/<int:n>")
def pymysql_count(n):
    table = mariadb_table()
    connection = mariadb_connect()
    with connection.cursor() as cursor:
        cursor.execute(f"select value from {table}")
        (count,) = cursor.fetchone()
    connection.close()
    return {"count": count}


# mysqlclient: MariaDB's own library in C, on the same table.


def mysqlclient_connect():
    import MySQLdb

    return MySQLdb.connect(**SERVICES["mariadb"], autocommit=False)


@app.get("/mysqlclient/<int:n>")
def mysqlclient(n):
    import MySQLdb

    table = mariadb_table()
    connection = mysqlclient_connect()
    cursor = connection.cursor()
    cursor.execute("select sleep(0.02), %s, repeat('z', 100000)", (n,))
    _, answer, text = cursor.fetchone()
    cursor.execute(f"select value from {table} for update")
    (before,) = cursor.fetchone()
    time.sleep(0.001)
    cursor.execute(f"update {table} set value = value + 1")
    cursor.execute(f"select value from {table}")
    (after,) = cursor.fetchone()
    connection.commit()
    try:
        cursor.execute("select nonsense")
    except MySQLdb.OperationalError as error:
        code = error.args[0]
    connection.close()
    return {"answer": answer, "length": len(text), "one more": after == before + 1, "code": code}


class Mounts:
    """Django under /django, Flask elsewhere."""

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith("/django/"):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/django", environ["PATH_INFO"][len("/django") :]
            return django()(environ, start_response)
        return app(environ, start_response)


application = Mounts()
