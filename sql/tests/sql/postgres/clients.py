"""What Python's Postgres clients do with the sample's rows. Usage: clients.py MODULE PORT. Prints `done` where all is right."""

import asyncio
import datetime as dt
import io
import sys
import uuid

PORT = int(sys.argv[2])
DSN = f"host=127.0.0.1 port={PORT} user=reader dbname=highwater"
AT = dt.datetime(2026, 1, 2, 3, 1, tzinfo=dt.timezone.utc)
WEB = ["GET /index 200", "GET /x 500", "naïve ✓ \"quoted\", comma", "out of memory"]


def same(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def psycopg():
    import psycopg

    with psycopg.connect(DSN, autocommit=True) as c:
        same(c.execute("SELECT count(*) FROM logs").fetchone(), (6,))
        rows = c.execute("SELECT message FROM logs WHERE service = %s ORDER BY 1", ("web",)).fetchall()
        same([r[0] for r in rows], WEB)
        same(c.execute("SELECT timestamp, attributes FROM logs WHERE timestamp = %s", (AT,)).fetchone(), (AT, {"ms": "1200"}))
        same(c.execute("SELECT %s + 1, %s, %s::text, %s, %s", (41, 1.5, "x", True, None)).fetchone(), (42, 1.5, "x", True, None))
        same(c.execute("SELECT count(*) FROM logs WHERE message = ANY(%s)", (WEB[:2],)).fetchone(), (2,))
        same(c.execute("SELECT %s::bytea, %s", (b"\0\xff", dt.date(2026, 1, 2))).fetchone(), (b"\0\xff", dt.date(2026, 1, 2)))
        same(c.execute("SELECT %s", (dt.timedelta(days=1, seconds=5),)).fetchone(), (dt.timedelta(days=1, seconds=5),))
        same(c.execute("SELECT message FROM logs ORDER BY 1 LIMIT %s", (2,)).rowcount, 2)
        same([d.name for d in c.execute("SELECT count(*), 1 AS one FROM logs").description], ["count", "one"])
        binary = c.cursor(binary=True).execute(
            "SELECT 1::int, 2::bigint, 1.5::float8, 'x', true, TIMESTAMP '2026-01-02 03:04:05', DATE '2026-01-02', "
            "[1, 2], ['a', NULL], 1.25::numeric(10, 2), INTERVAL '1 day'"
        )
        row = binary.fetchone()
        same(row[:5], (1, 2, 1.5, "x", True))
        same(row[5:9], (dt.datetime(2026, 1, 2, 3, 4, 5), dt.date(2026, 1, 2), [1, 2], ["a", None]))
        same((str(row[9]), row[10]), ("1.25", dt.timedelta(days=1)))
        same(len(list(c.cursor().stream("SELECT * FROM generate_series(1, 10000)"))), 10000)
        for code, place, sql in [("42703", "8", "SELECT nosuch FROM logs"), ("42P01", "15", "SELECT * FROM lgos")]:
            try:
                c.execute(sql)
                raise AssertionError(f"{sql} did not fail")
            except psycopg.Error as e:
                same((e.sqlstate, e.diag.statement_position), (code, place))
        c.prepare_threshold = 0
        for i in range(3):
            same(c.execute("SELECT %s + value FROM generate_series(1, 2)", (i,)).fetchall(), [(i + 1,), (i + 2,)])
        with c.pipeline():
            cursors = [c.execute("SELECT %s::int", (i,)) for i in range(5)]
        same([x.fetchone()[0] for x in cursors], list(range(5)))
        same(c.execute("SELECT count(*) FROM logs WHERE _offset = ANY(%s)", ([0, 1],)).fetchone(), (5,))
        same(c.execute("SELECT %s::int8[], %s::text[]", ([1, None], ['a "b"', None])).fetchone(), ([1, None], ['a "b"', None]))
        same(c.execute("SELECT %s::jsonb, %s::uuid", (psycopg.types.json.Jsonb({"a": 1}), uuid.UUID(int=7))).fetchone(), ({"a": 1}, uuid.UUID(int=7)))
        binary = c.cursor(binary=True).execute("SELECT %s::jsonb, %s::uuid, %s::int8[]", (psycopg.types.json.Jsonb([1]), uuid.UUID(int=9), [5])).fetchone()
        same(binary, ([1], uuid.UUID(int=9), [5]))
        own = psycopg.ClientCursor(c).execute("SELECT count(*) FROM logs WHERE message = ANY(%s) AND timestamp > %s LIMIT %s", (WEB, dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc), 1))
        same(own.fetchone(), (4,))
        with c.cursor().copy("COPY (SELECT message, level FROM logs WHERE service = 'web' ORDER BY 1) TO STDOUT") as copy:
            same([row[0] for row in copy.rows()], WEB)
        with c.cursor().copy("COPY (SELECT 7::int, 'x', NULL) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text", "text"])
            same(list(copy.rows()), [(7, "x", None)])
        same(psycopg.types.TypeInfo.fetch(c, "text").oid, 25)
        same(psycopg.types.composite.CompositeInfo.fetch(c, "nosuch"), None)
        c.execute("SET TimeZone = 'Asia/Kolkata'")
        same(c.execute("SELECT min(timestamp) FROM logs").fetchone()[0].isoformat(), "2026-01-02T08:30:00+05:30")
    with psycopg.connect(DSN) as c, c.cursor(name="in_parts") as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT message FROM logs ORDER BY 1")
        same(len(cursor.fetchall()), 6)


def psycopg2():
    import psycopg2

    c = psycopg2.connect(DSN)
    cursor = c.cursor()
    cursor.execute("SELECT message, attributes FROM logs WHERE service = %s AND message IN %s ORDER BY 1", ("web", tuple(WEB[:2])))
    same(cursor.fetchall()[1], ("GET /x 500", {"path": "/x", "status": "500"}))
    cursor.execute("SELECT timestamp FROM logs WHERE message = 'slow query'")
    same(cursor.fetchone()[0], AT)
    c.rollback()
    named = c.cursor("in_parts")
    named.itersize = 3
    named.execute("SELECT message FROM logs")
    same(len(named.fetchall()), 6)
    c.commit()
    try:
        cursor.execute("SELECT nosuch")
        raise AssertionError("no error")
    except psycopg2.errors.UndefinedColumn:
        c.rollback()
    out = io.StringIO()
    cursor.copy_expert("COPY (SELECT message FROM logs WHERE service = 'web' ORDER BY 1) TO STDOUT WITH CSV HEADER", out)
    same(out.getvalue().splitlines()[:2], ["message", WEB[0]])
    cursor.execute("SELECT count(*) FROM logs WHERE message = ANY(%s) AND _offset = ANY(%s)", (WEB, [0, 1, 2, 3]))
    same(cursor.fetchone(), (4,))
    cursor.execute("SELECT %s, %s, %s", (dt.timedelta(days=1, seconds=3661), dt.date(2026, 1, 2), AT))
    same(cursor.fetchone(), (dt.timedelta(days=1, seconds=3661), dt.date(2026, 1, 2), AT))
    c.rollback()
    c.set_session(readonly=True, autocommit=True)
    cursor.execute("SELECT 1")
    same(cursor.fetchone(), (1,))


async def with_asyncpg():
    import asyncpg

    c = await asyncpg.connect(host="127.0.0.1", port=PORT, user="reader", database="highwater")
    same(await c.fetchval("SELECT count(*) FROM logs"), 6)
    rows = await c.fetch("SELECT message FROM logs WHERE timestamp > $1 AND service = $2 ORDER BY 1", AT, "web")
    same([r["message"] for r in rows], [WEB[2]])
    same(await c.fetchval("SELECT count(*) FROM logs WHERE message = ANY($1::text[])", WEB[:2]), 2)
    same(await c.fetchval("SELECT count(*) FROM logs WHERE message = ANY($1)", WEB[:2]), 2)
    same(tuple(await c.fetchrow("SELECT $1::int + 1, $2::timestamptz, $3::text", 1, AT, "t")), (2, AT, "t"))
    row = await c.fetchrow("SELECT attributes, ['a'], 1.25::numeric(10, 2) FROM logs WHERE message = 'slow query'")
    same((row[0], row[1], str(row[2])), ('{"ms":"1200"}', ["a"], "1.25"))
    for cast in ("::int8[]", "", "::bigint[]", "::int[]"):
        same(await c.fetchval(f"SELECT count(*) FROM logs WHERE _offset = ANY($1{cast})", [0, 1]), 5)
    same(await c.fetchval("SELECT count(*) FROM logs WHERE message <> ALL($1::text[])", WEB[:2]), 4)
    for cast, value in [
        ("int8[]", [1, None]), ("text[]", ["a", None, 'b"c']), ("float8[]", [1.5]), ("bool[]", [True]), ("timestamptz[]", [AT]), ("int8[]", []),
        ("uuid", uuid.UUID(int=3)), ("jsonb", '{"a":1}'), ("date", AT.date()), ("interval", dt.timedelta(days=1)), ("oid", 5), ("bytea", b"\0\1"),
    ]:
        same(await c.fetchval(f"SELECT $1::{cast}", value), value)
    same([r[0] for r in await c.fetch("SELECT unnest($1::int8[])", [1, 2, 3])], [1, 2, 3])
    same(await c.fetchval("SELECT CASE WHEN $1 THEN service ELSE $2 END FROM logs LIMIT 1", False, "no"), "no")
    out = io.BytesIO()
    await c.copy_from_query("SELECT message FROM logs WHERE service = $1 ORDER BY 1", "web", output=out, format="csv", header=True)
    same(out.getvalue().decode().splitlines()[:2], ["message", WEB[0]])
    async with c.transaction():
        same(len([r async for r in c.cursor("SELECT * FROM generate_series(1, 1000)", prefetch=100)]), 1000)
    try:
        await c.fetchval("SELECT count(*) FROM generate_series(1, 1000000000000)", timeout=1)
        raise AssertionError("no timeout")
    except asyncio.TimeoutError:
        pass
    same(await c.fetchval("SELECT 1"), 1)
    try:
        await c.fetch("SELECT nosuch FROM logs")
        raise AssertionError("no error")
    except asyncpg.UndefinedColumnError:
        pass
    await c.reset()
    await c.close()


def sqlalchemy():
    import sqlalchemy as sa

    engine = sa.create_engine(f"postgresql+psycopg://reader@127.0.0.1:{PORT}/highwater")
    inspector = sa.inspect(engine)
    same(inspector.get_schema_names(), ["information_schema", "public"])
    same(sorted(inspector.get_table_names()), ["alerts", "dead_letter", "logs", "metric_metadata", "metrics", "requests_1m", "spans"])
    columns = {c["name"]: str(c["type"]) for c in inspector.get_columns("logs")}
    same((columns["message"], columns["timestamp"], columns["_offset"]), ("TEXT", "TIMESTAMP", "BIGINT"))
    for nothing in (
        inspector.get_foreign_keys, inspector.get_indexes, inspector.get_unique_constraints, inspector.get_check_constraints
    ):
        same(nothing("logs"), [])
    same(inspector.has_table("logs"), True)
    same(inspector.has_table("nosuch"), False)
    same(inspector.get_view_names(), ["alert_history", "slo_status", "telemetry_summary"])
    same("FROM alerts" in inspector.get_view_definition("alert_history"), True)
    metadata = sa.MetaData()
    metadata.reflect(engine)
    logs = metadata.tables["logs"]
    with engine.connect() as c:
        query = sa.select(logs.c.service, sa.func.count()).where(logs.c.timestamp > AT).group_by(logs.c.service).order_by(logs.c.service)
        same([tuple(r) for r in c.execute(query)], [("db", 1), ("web", 1)])


if sys.argv[1] == "asyncpg":
    asyncio.run(with_asyncpg())
else:
    {"psycopg": psycopg, "psycopg2": psycopg2, "sqlalchemy": sqlalchemy}[sys.argv[1]]()
print("done")
