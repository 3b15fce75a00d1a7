"""Names that must not be used in workflow code, and what to use instead."""

from __future__ import annotations

import ast
from typing import Final

CLOCK: Final = "reads the clock: use workflow.now()"
CHANCE: Final = "gives a different number on replay: use workflow.random()"
UUID: Final = "gives a different id on replay: use workflow.uuid4() or uuid.uuid4()"
FILES: Final = "reads or writes files: do it in an activity"
PROCESS: Final = "depends on this process: pass it in as an argument, or read it in an activity"
NETWORK: Final = "talks to the network: do it in an activity"
DATABASE: Final = "talks to a database: do it in an activity"
RUN: Final = "starts a process: do it in an activity"
THREADS: Final = "starts or waits for threads: use asyncio, or do it in an activity"
CREDENTIAL: Final = "differs on replay: create it in an activity"
HASH: Final = "differs in each process: use something stable, such as zlib.crc32"
BLOCK: Final = "blocks all runs: use await workflow.sleep(...) or asyncio.sleep(...)"
CONSOLE: Final = "waits for the terminal: ask in an activity, or wait for a signal"

CALLS: Final = {
    **dict.fromkeys(
        (
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.datetime.today",
            "datetime.date.today",
        ),
        CLOCK,
    ),
    **dict.fromkeys(
        [
            f"time.{name}{unit}"
            for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
            for unit in ("", "_ns")
        ],
        CLOCK,
    ),
    **dict.fromkeys(("time.localtime", "time.gmtime", "time.ctime", "time.strftime", "time.asctime"), CLOCK),
    "time.sleep": BLOCK,
    **dict.fromkeys(("uuid.uuid1", "uuid.uuid6", "uuid.uuid7", "uuid.getnode"), UUID),
    **dict.fromkeys(
        (
            "open",
            "io.open",
            "os.open",
            "os.listdir",
            "os.scandir",
            "os.walk",
            "os.stat",
            "os.remove",
            "os.rename",
        ),
        FILES,
    ),
    **dict.fromkeys(
        ("os.path.exists", "os.path.isfile", "os.path.isdir", "os.path.getmtime", "os.path.getsize"), FILES
    ),
    **dict.fromkeys(
        (
            "os.environ",
            "os.getenv",
            "os.getpid",
            "os.getcwd",
            "os.cpu_count",
            "platform.node",
            "socket.gethostname",
        ),
        PROCESS,
    ),
    **dict.fromkeys(("os.system", "os.popen", "os.fork", "os.spawnv", "os.execv"), RUN),
    **dict.fromkeys(("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"), RUN),
    **dict.fromkeys(("os.urandom", "random.SystemRandom"), CREDENTIAL),
    **dict.fromkeys(("asyncio.to_thread", "asyncio.run_coroutine_threadsafe"), THREADS),
    **dict.fromkeys(
        ("asyncio.open_connection", "asyncio.start_server", "asyncio.open_unix_connection"), NETWORK
    ),
    "hash": HASH,
    "id": HASH,
    "input": CONSOLE,
}
"""Functions and values that must be neither called nor passed on; builtins only if called."""

MODULES: Final = {
    "numpy.random": CHANCE,
    "secrets": CREDENTIAL,
    "subprocess": RUN,
    "multiprocessing": RUN,
    "threading": THREADS,
    "concurrent.futures": THREADS,
    "queue": THREADS,
    "shutil": FILES,
    "tempfile": FILES,
    "glob": FILES,
    **dict.fromkeys(
        (
            "socket",
            "ssl",
            "http.client",
            "urllib.request",
            "urllib3",
            "requests",
            "httpx",
            "aiohttp",
            "websockets",
            "smtplib",
            "ftplib",
            "grpc",
            "boto3",
            "stripe",
            "kafka",
            "confluent_kafka",
            "pika",
        ),
        NETWORK,
    ),
    **dict.fromkeys(
        ("sqlite3", "psycopg", "psycopg2", "asyncpg", "pymongo", "redis", "sqlalchemy.create_engine"),
        DATABASE,
    ),
}
"""Modules of which every function leaks, except those in `HARMLESS`."""

HARMLESS: Final = {"Error", "Exception", "Timeout", "HTTPError", "HTTPStatusError", "RequestException"}

PATH_METHODS: Final = {
    "exists", "glob", "is_dir", "is_file", "iterdir", "mkdir", "open", "read_bytes", "read_text", "rename",
    "rglob", "stat", "touch",
    "unlink", "write_bytes", "write_text",
}  # fmt: skip


def advice(name: str | None, call: ast.Call | None) -> str:
    """Advice about a name in workflow code; empty: it may be used.

    Args:
        name: the full name, imports followed.
        call: the call, if the name is called.
    """
    if name is None:
        return ""
    shown = f"{name}()" if call else name
    if name in CALLS and (call or "." in name):
        return f"{shown} {CALLS[name]}"
    owner, _, last = name.rpartition(".")
    if owner in ("pathlib.Path", "pathlib.Path()") and last in PATH_METHODS:
        return f"{shown} {FILES}"
    if call is None or last in HARMLESS:
        return ""
    if name == "random.Random" and not call.args and not call.keywords:
        return f"{shown} {CHANCE}"
    while owner:
        if owner in MODULES:
            return f"{shown} {MODULES[owner]}"
        owner = owner.rpartition(".")[0]
    return ""
