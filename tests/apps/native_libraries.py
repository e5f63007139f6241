"""What libraries with threads, allocators and thread-local variables of their own do in a request: one function each, which
imports its library when it is called first. `/NAME/N` answers what NAME makes of N; the same on every worker class."""

import hashlib
import importlib
import json
import tempfile
import threading

WORDS = ["hello", "world", "coroutine", "thread", "native", "library"]


class Library:
    """A module that is imported when it is first used: all of one name are imported in one go, by one request."""

    lock = threading.Lock()

    def __init__(self, name):
        self.name = name

    def __getattr__(self, attribute):
        with Library.lock:
            return getattr(importlib.import_module(self.name), attribute)


np = Library("numpy")
pa = Library("pyarrow")


def digest(data):
    return hashlib.sha256(data if isinstance(data, bytes) else repr(data).encode()).hexdigest()[:12]


def duckdb(n, module=Library("duckdb")):
    connection = module.connect()
    row = connection.execute(f"select sum(range), count(*) from range({300000 + n})").fetchone()
    groups = connection.execute("select range % 7 g, sum(range) from range(200000) group by g order by g").fetchall()
    connection.close()
    return [str(row), groups]


def polars(n, module=Library("polars")):
    frame = module.DataFrame({"g": [j % 5 for j in range(20000)], "v": range(n, 20000 + n)})
    col = module.col
    grouped = frame.lazy().group_by("g").agg(col("v").sum(), col("v").max().alias("m")).sort("g").collect()
    return [grouped["v"].to_list(), grouped["m"].to_list(), frame.join(grouped, on="g").height]


def tokenizers_trained(n, module=Library("tokenizers"), models=Library("tokenizers.models"), trainers=Library("tokenizers.trainers")):
    tokenizer = module.Tokenizer(models.BPE(unk_token="[U]"))
    trainer = trainers.BpeTrainer(vocab_size=60 + n, show_progress=False, special_tokens=["[U]"])
    tokenizer.train_from_iterator(["hello world", "native library"] * 50, trainer)
    return [len(encoded.ids) for encoded in tokenizer.encode_batch(["hello world", "library"] * 20)]


def tokenizers(n, module=Library("tokenizers"), models=Library("tokenizers.models"), before=Library("tokenizers.pre_tokenizers")):
    tokenizer = module.Tokenizer(models.WordLevel({"hello": 0, "world": 1, "[U]": 2}, unk_token="[U]"))
    tokenizer.pre_tokenizer = before.Whitespace()
    return sum(sum(encoded.ids) for encoded in tokenizer.encode_batch(["hello world x"] * (200 + n)))


def deltalake(n, module=Library("deltalake")):
    with tempfile.TemporaryDirectory() as path:
        for part in range(2):
            module.write_deltalake(path, pa.table({"a": [part, n, 3]}), mode="append")
        table = module.DeltaTable(path)
        return [table.version(), table.to_pyarrow_table()["a"].to_pylist().count(n)]


def kuzu(n, module=Library("kuzu")):
    with tempfile.TemporaryDirectory() as path:
        database = module.Database(path + "/x", buffer_pool_size=1 << 26, max_db_size=1 << 30)
        connection = module.Connection(database)
        connection.execute("create node table t(id int64, primary key(id))")
        connection.execute("unwind range(1, 100) as i create (:t {id: i})")
        answer = connection.execute(f"match (x:t) return sum(x.id) + {n}").get_next()
        connection.close(), database.close()
        return answer


def pyproj(n, module=Library("pyproj")):
    transformer = module.Transformer.from_crs(4326, 3857, always_xy=True)
    away = module.Geod(ellps="WGS84").inv(0, 0, n, 1)
    return [round(x, 1) for x in (*transformer.transform(10 + n / 10, 50), *away)]


def numpy(n):
    matrix = np.arange(160000, dtype=float).reshape(400, 400) + n
    return digest((matrix @ matrix.T).astype(int).tobytes())


def scipy(n, linalg=Library("scipy.linalg"), fft=Library("scipy.fft")):
    matrix = np.eye(150) * 3 + 1
    return [round(float(linalg.inv(matrix)[0, 0]), 9), round(float(abs(fft.fft(np.ones(50000), workers=2)[0])), 3)]


def lmdb(n, module=Library("lmdb")):
    with tempfile.TemporaryDirectory() as path:
        with module.open(path, map_size=1 << 24) as environment:
            with environment.begin(write=True) as writing:
                for at in range(100):
                    writing.put(b"%04d" % at, b"x" * n)
            with environment.begin() as reading:
                return sum(len(value) for _, value in reading.cursor())


def wasmtime(n, module=Library("wasmtime"), engines=[]):
    with Library.lock:
        engines or engines.append(importlib.import_module("wasmtime").Engine())
    store = module.Store(engines[0])
    code = module.Module(engines[0], f"(module (func (export \"f\") (result i32) i32.const {42 + n}))")
    return module.Instance(store, code, []).exports(store)["f"](store)


def pyarrow(n, compute=Library("pyarrow.compute"), parquet=Library("pyarrow.parquet")):
    table = pa.table({"g": [j % 5 for j in range(20000)], "v": list(range(n, 20000 + n))})
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    back = parquet.read_table(pa.BufferReader(sink.getvalue()))
    return [compute.sum(back["v"]).as_py(), back.group_by("g").aggregate([("v", "sum")]).num_rows]


def pandas(n, module=Library("pandas")):
    frame = module.DataFrame({"g": np.arange(20000) % 5, "v": np.arange(20000) + n})
    return [int(x) for x in frame.groupby("g")["v"].sum()]


def blake3(n, module=Library("blake3")):
    return module.blake3(b"x" * (3000000 + n), max_threads=module.blake3.AUTO).hexdigest()[:8]


def confluent_kafka(n, module=Library("confluent_kafka")):
    producer = module.Producer({"bootstrap.servers": "127.0.0.1:9", "log_level": 0, "message.timeout.ms": 100})
    producer.produce("t", b"x" * n)
    return producer.flush(60)


def lxml(n, module=Library("lxml.etree")):
    tree = module.fromstring("<a>" + "<b>1</b>" * (1000 + n) + "</a>")
    try:
        module.fromstring("<a><b></a>")
    except module.XMLSyntaxError as error:
        return [int(tree.xpath("sum(//b)")), error.code]


def orjson(n, module=Library("orjson")):
    return digest(module.dumps([module.loads(module.dumps({"a": list(range(500)), "n": n})) for _ in range(20)]))


def pillow(n, module=Library("PIL.Image")):
    image = module.new("RGB", (400, 300), (n % 256, 20, 30)).resize((150, 100), module.Resampling.LANCZOS)
    with tempfile.TemporaryFile() as file:
        image.save(file, "PNG"), file.seek(0)
        return digest(module.open(file).tobytes())


def cryptography(n, ec=Library("cryptography.hazmat.primitives.asymmetric.ec"), x509=Library("cryptography.x509"),
                 hashes=Library("cryptography.hazmat.primitives.hashes"), scrypt=Library("cryptography.hazmat.primitives.kdf.scrypt")):
    key = ec.generate_private_key(ec.SECP256R1())
    key.public_key().verify(key.sign(b"text", ec.ECDSA(hashes.SHA256())), b"text", ec.ECDSA(hashes.SHA256()))
    try:
        x509.load_der_x509_certificate(b"no certificate")
    except ValueError:
        return digest(scrypt.Scrypt(salt=b"salt", length=16, n=2**10, r=8, p=1).derive(b"%d" % n))


def bcrypt(n, module=Library("bcrypt")):
    return digest(module.hashpw(b"%d" % n, b"$2b$05$abcdefghijklmnopqrstuu"))


def argon2(n, module=Library("argon2.low_level")):
    return digest(module.hash_secret_raw(b"%d" % n, b"saltsalt", 1, 8192, 4, 16, module.Type.ID))


def shapely(n, module=Library("shapely")):
    points = module.points(np.arange(500.0), np.arange(500.0) % 17)
    return [round(module.union_all(module.buffer(points, 1)).area, 2), module.is_valid_reason(module.box(0, 0, 1 + n, 1))]


def sklearn(n, cluster=Library("sklearn.cluster"), ensemble=Library("sklearn.ensemble")):
    data = (np.arange(3000) * 7919 % 1000).reshape(-1, 3).astype(float)
    means = cluster.KMeans(3, n_init=1, random_state=0).fit(data)
    forest = ensemble.RandomForestClassifier(4, n_jobs=2, random_state=0).fit(data, data[:, 0] > 500)
    return [round(means.inertia_), int(forest.predict(data).sum())]


def onnxruntime(n, module=Library("onnxruntime")):
    options = module.SessionOptions()
    options.intra_op_num_threads = 2
    try:
        module.InferenceSession(b"no model", options)
    except Exception as error:
        return [type(error).__name__, module.get_available_providers()[-1]]


def pydantic(n, module=Library("pydantic"), made=[]):
    import time

    with Library.lock:
        if not made:
            pydantic = importlib.import_module("pydantic")

            class Item(pydantic.BaseModel):
                number: int
                names: list[str]

                @pydantic.field_validator("number")
                def waits(cls, value):
                    time.sleep(0.01)
                    return value + 1

            made.append(Item)
    for _ in range(3):
        item = made[0].model_validate_json(json.dumps({"number": n, "names": WORDS}))
        try:
            made[0](number="x", names=3)
        except module.ValidationError as error:
            wrong = error.error_count()
    return [item.number, wrong, item.model_dump_json()]


def zstandard(n, module=Library("zstandard")):
    data = module.ZstdCompressor(level=3, threads=2).compress(b"abcdefgh" * (100000 + n))
    return len(module.ZstdDecompressor().decompress(data))


def tantivy(n, module=Library("tantivy")):
    builder = module.SchemaBuilder()
    builder.add_text_field("title", stored=True)
    index = module.Index(builder.build())
    writer = index.writer(15_000_000, 1)
    for word in WORDS * 10:
        writer.add_document(module.Document(title=[f"{word} {n}"]))
    writer.commit(), writer.wait_merging_threads(), index.reload()
    return index.searcher().search(index.parse_query("native", ["title"]), 100).count


def regex(n, module=Library("regex")):
    return len(module.findall(r"(?:ab){1,3}\d+", "ababab1 ab22 " * (1000 + n), concurrent=True))


def lancedb(n, module=Library("lancedb")):
    with tempfile.TemporaryDirectory() as path:
        table = module.connect(path).create_table("t", [{"vector": [float(j), 1.0], "id": j} for j in range(50)])
        return [row["id"] for row in table.search([float(n % 40), 1.0]).limit(2).to_list()][:1]


def numexpr(n, module=Library("numexpr")):
    return int(module.evaluate("sum(a * 2 + b)", {"a": np.arange(300000), "b": np.full(300000, n)}))


def rtree(n, module=Library("rtree.index")):
    index = module.Index()
    for at in range(300):
        index.insert(at, (at, at, at + 1, at + 1))
    return sorted(index.intersection((n, n, n + 2.5, n + 2.5)))


def msgspec(n, module=Library("msgspec")):
    return module.json.decode(module.json.encode({"n": n, "words": WORDS * 100}))["n"]


def brotli(n, module=Library("brotli")):
    return len(module.decompress(module.compress(b"abcdefgh" * (20000 + n), quality=5)))


def zmq(n, module=Library("zmq")):
    context = module.Context()
    answering, asking = context.socket(module.REP), context.socket(module.REQ)
    asking.connect(f"tcp://127.0.0.1:{answering.bind_to_random_port('tcp://127.0.0.1')}")

    def answer():
        answering.send(answering.recv() + b"!")

    thread = threading.Thread(target=answer)
    thread.start()
    asking.send(b"%d" % n)
    got = asking.recv()
    thread.join(), asking.close(), answering.close(), context.term()
    return got.decode()


def h5py(n, module=Library("h5py")):
    with tempfile.NamedTemporaryFile() as file, module.File(file.name, "w") as data:
        data["x"] = np.arange(1000) + n
        return int(data["x"][:].sum())


def numba(n, module=Library("numba"), made=[]):
    with Library.lock:
        if not made:
            made.append(importlib.import_module("numba").njit(nogil=True)(lambda x: x * 2 + 1))
            made[0](1)
    return made[0](n)


def rapidfuzz(n, process=Library("rapidfuzz.process")):
    return process.cdist(WORDS * 20, WORDS, workers=2).sum().round(2).item()


def faiss(n, module=Library("faiss")):
    vectors = (np.arange(8000) * 7919 % 1000).reshape(-1, 8).astype("float32")
    index = module.IndexFlatL2(8)
    index.add(vectors)
    return index.search(vectors[n : n + 5], 1)[1].ravel().tolist()


def cv2(n, module=Library("cv2")):
    image = np.full((400, 400, 3), n % 200, np.uint8)
    return digest(module.GaussianBlur(module.resize(image, (300, 300)), (5, 5), 0).tobytes())


def datafusion(n, module=Library("datafusion")):
    context = module.SessionContext()
    context.from_arrow(pa.table({"g": [j % 5 for j in range(5000)], "v": list(range(5000))}), "t")
    rows = context.sql(f"select g, sum(v) + {n} as s from t group by g order by g").to_pydict()
    return rows["s"]


def usearch(n, module=Library("usearch.index")):
    index = module.Index(ndim=8, metric="l2sq")
    vectors = (np.arange(1600) * 7919 % 1000).reshape(-1, 8).astype("float32")
    index.add(np.arange(200), vectors, threads=2)
    return int(index.search(vectors[n], 1, exact=True).keys[0]) % 125  # each vector is there more than once


def chdb(n, module=Library("chdb")):
    return str(module.query(f"select sum(number) + {n} from numbers(100000)", "CSV")).strip()


def app(environ, start_response):
    name, _, n = environ["PATH_INFO"][1:].partition("/")
    body = json.dumps(globals()[name](int(n)), default=str).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
