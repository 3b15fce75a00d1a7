"""The determinism guard: what would not happen again on replay names the author's line and suspends
the run."""

from __future__ import annotations

import copy
import datetime as dt
import importlib.util
import random
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from perdure.replay import clock_sites, guard
from perdure.replay.calls import evaluate
from perdure.replay.guard import NonDeterministic

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

AUTHOR: Final = """
import asyncio, concurrent.futures, datetime, logging, os, pathlib, random, secrets
import socket, subprocess, threading, time, traceback
import uuid, warnings, zoneinfo
import datetime as named
from dataclasses import dataclass, field
from datetime import date, datetime
from time import monotonic, time as early

@dataclass
class Stamped:
    at: float = field(default_factory=time.time)

class Dice(random.Random):
    pass

class Order:
    zone = datetime.now().astimezone().tzinfo
    async def run(self): return datetime.now()
    @staticmethod
    async def static(): return time.time()
    @property
    def today(self): return date.today()

async def nested():
    def inner(): return [datetime.utcnow() for _ in range(2)]
    return inner()

async def swallow():
    try: time.time()
    except BaseException: return "swallowed"

def plain():
    return (
        time.time(), datetime.now(), open(os.devnull).close(), os.environ.get("HOME"), random.random(),
        uuid.uuid1(), secrets.token_hex(),
    )

def log():
    logging.getLogger("author").warning("said")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("warned")
    return traceback.format_stack()

def lazily():
    import perdure_lazy_module
    return perdure_lazy_module.SEEN
"""
LAZY: Final = """
import os, random, threading, time, uuid
SEEN = [time.time() > 0, open(os.devnull).close(), os.environ.get("HOME", ""), random.random(), uuid.uuid4()]
"""
FORBIDDEN: Final = {
    "time.time()": "time.time",
    "early()": "time.time",
    "time.time_ns()": "time.time_ns",
    "monotonic()": "time.monotonic",
    "time.perf_counter()": "time.perf_counter",
    "time.process_time()": "time.process_time",
    "time.localtime()": "time.localtime",
    "time.ctime()": "time.ctime",
    "time.gmtime()": "time.gmtime",
    "time.localtime(None)": "time.localtime",
    "time.asctime()": "time.asctime",
    "time.strftime('%Y')": "time.strftime",
    "random.Random()": "random.Random",
    "random.Random(None)": "random.Random",
    "Dice()": "random.Random",
    "random.Random(3).seed()": "Random.seed",
    "time.sleep(0)": "time.sleep",
    "datetime.now()": "datetime.now",
    "datetime.now(tz=named.timezone.utc)": "datetime.now",
    "datetime.utcnow()": "datetime.utcnow",
    "datetime.today()": "datetime.today",
    "date.today()": "date.today",
    "named.datetime.now()": "datetime.now",
    "named.date.today()": "date.today",
    "Stamped()": "time.time",
    "Order().today": "date.today",
    "open(os.devnull)": "open",
    "pathlib.Path(os.devnull).read_text()": "open",
    "os.listdir('.')": "os.listdir",
    "list(pathlib.Path('.').iterdir())": "os.",
    "os.environ['HOME']": "os.environ",
    "os.environ.get('HOME')": "os.environ",
    "os.getenv('HOME')": "os.environ",
    "'HOME' in os.environ": "os.environ",
    "dict(os.environ)": "os.environ",
    "os.urandom(4)": "os.urandom",
    "secrets.token_hex()": "",
    "secrets.choice([1, 2])": "",
    "random.SystemRandom().random()": "random.Random",
    "uuid.uuid1()": "uuid.uuid1",
    "threading.Thread(target=print).start()": "Thread.start",
    "concurrent.futures.ThreadPoolExecutor().submit(print)": "Thread.start",
    "subprocess.run(['true'])": "subprocess.Popen",
    "os.system('true')": "os.system",
    "input('your name? ')": "input",
    "socket.socket()": "socket.socket",
    "socket.create_connection(('127.0.0.1', 1))": "socket.",
    "socket.getaddrinfo('localhost', 1)": "socket.getaddrinfo",
}
ALLOWED: Final = (
    "datetime(2020, 1, 1) < datetime.fromtimestamp(0) or isinstance(date(2020, 1, 1), datetime)",
    "named.datetime.fromisoformat('2020-01-01').date() == date(2020, 1, 1)",
    "time.localtime(0) and time.gmtime(0) and time.strptime('12', '%H')",
    "zoneinfo.ZoneInfo('UTC')",
    "random.Random(3).random() and Dice(4).random()",
    "random.seed() or random.random()",
    "time.strftime('%Y', time.gmtime(0)) and time.asctime(time.gmtime(0))",
    "logging.Formatter('%(asctime)s').format(logging.makeLogRecord({}))",
    "print('said', end='')",
    "log()",
    "lazily()",
)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    guard.install()
    guard.install()


def load(folder: Path, name: str, text: str) -> ModuleType:
    file = folder / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    guard.watch_module(module)
    return module


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("author")
    text = AUTHOR
    for number, expression in enumerate((*FORBIDDEN, *ALLOWED)):
        text += f"\nasync def program_{number}():\n    return {expression}\n"
    (folder / "perdure_lazy_module.py").write_text(LAZY)
    sys.path.insert(0, str(folder))
    yield load(folder, "perdure_author", text)
    sys.path.remove(str(folder))
    del sys.modules["perdure_author"]


@pytest.mark.parametrize("expression", FORBIDDEN)
def test_it_suspends_the_run_and_names_the_users_line(driven: Driven, author: Any, expression: str) -> None:
    program = getattr(author, f"program_{list(FORBIDDEN).index(expression)}")
    with pytest.raises(NonDeterministic) as caught:
        driven.begin(program)
    where, _, rest = str(caught.value).partition(": ")
    assert FORBIDDEN[expression] in rest
    assert "cannot be used in a workflow" in rest
    line = (
        program.__code__.co_firstlineno + 1
        if expression != "Order().today"
        else author.Order.today.fget.__code__.co_firstlineno + 1
    )
    assert where == f"{author.__file__}:{line}"
    assert driven.wanted() == []


@pytest.mark.parametrize("expression", ALLOWED)
def test_what_happens_again_is_let_through(driven: Driven, author: Any, expression: str) -> None:
    sys.modules.pop("perdure_lazy_module", None)
    assert (
        driven.begin(getattr(author, f"program_{len(FORBIDDEN) + ALLOWED.index(expression)}")).exception()
        is None
    )


def test_methods_and_nested_functions_are_seen(driven: Driven, author: Any) -> None:
    for program in (author.Order().run, author.Order.static, author.nested):
        driven.loop.fault = None
        with pytest.raises(NonDeterministic, match=r"perdure_author\.py:\d+"):
            driven.begin(program)


def test_code_that_swallows_the_refusal_does_not_continue(driven: Driven, author: Any) -> None:
    with pytest.raises(NonDeterministic, match=r"time\.time"):
        driven.begin(author.swallow)


def test_outside_workflow_code_nothing_is_forbidden(author: Any) -> None:
    assert len(author.plain()) == 7
    assert author.Order.zone is not None


def test_a_second_run_of_the_same_line_is_caught_again(driven: Driven, author: Any) -> None:
    for _ in range(3):
        author.plain()
        driven.loop.fault = None
        with pytest.raises(NonDeterministic):
            driven.begin(author.program_9)


def test_random_and_uuid_come_from_the_stream_of_the_run(driven: Driven) -> None:
    async def program() -> tuple[Any, ...]:
        return (
            random.random(),
            random.randint(1, 10**9),
            uuid.uuid4(),
            random.choice(range(10**6)),
            random.getrandbits(64),
        )

    stream = random.Random(7)
    assert driven.begin(program).result() == (
        stream.random(),
        stream.randint(1, 10**9),
        uuid.UUID(int=stream.getrandbits(128), version=4),
        stream.choice(range(10**6)),
        stream.getrandbits(64),
    )


DRAWS: Final[list[Callable[[Any], Any]]] = [
    lambda rng: rng.random(),
    lambda rng: rng.getrandbits(8),
    lambda rng: rng.choice([1, 2]),
    lambda rng: rng.gauss(),
    lambda rng: rng.shuffle([1, 2]),
    lambda rng: rng.randbytes(3),
    lambda rng: rng.seed(3),
    lambda rng: rng.setstate(rng.getstate()),
    lambda rng: rng.uniform(1, 2),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_kept_stream_is_not_drawn_from_by_what_only_reads(driven: Driven, draw: Any) -> None:
    from perdure.errors import UsageError

    async def program() -> random.Random:
        rng = driven.runtime.random()
        rng.gauss()  # it keeps a second number
        return rng

    rng = driven.begin(program).result()
    before = rng.getstate()
    with pytest.raises(UsageError, match="may only read"):
        evaluate(driven.loop, draw, rng)
    assert rng.getstate() == before
    assert driven.loop.fault is None
    assert type(copy.deepcopy(rng)) is random.Random
    assert copy.deepcopy(rng).random() == rng.random()


def test_a_condition_that_draws_suspends_the_run(driven: Driven) -> None:
    from perdure.errors import UsageError

    async def program() -> None:
        rng = driven.runtime.random()
        await driven.runtime.wait_until(lambda: rng.random() > 2, None)

    with pytest.raises(UsageError, match="may only read"):
        driven.begin(program)


def test_the_stream_of_a_run_is_pythons(driven: Driven) -> None:
    mine, pythons = driven.runtime.random(), random.Random(7)
    draws: list[Callable[[Any], Any]] = [
        lambda rng: rng.random(),
        lambda rng: rng.gauss(),
        lambda rng: rng.choices(range(99), k=9),
        lambda rng: rng.randrange(10**30),
    ]
    for draw in draws:
        assert draw(mine) == draw(pythons)


def test_the_random_numbers_of_others_are_not_touched(driven: Driven) -> None:
    random.seed(5)
    expected = random.Random(5).random()

    async def program() -> float:
        random.seed(1)
        return random.random()

    driven.begin(program).result()
    assert random.random() == expected


def test_a_query_gets_a_usage_error_and_the_run_lives(driven: Driven, author: Any) -> None:
    from perdure.errors import UsageError

    with pytest.raises(UsageError, match=r"perdure_author\.py:\d+: time\.time"):
        evaluate(driven.loop, author.plain)
    driven.loop.run()


def test_call_sites_of_datetime_are_guarded_and_nothing_else_of_it() -> None:
    called: list[str] = []
    names: dict[str, Any] = {"datetime": dt.datetime, "module": dt}
    exec(
        "def sites(): return datetime.now() < datetime.max, module.date.today() < module.date.max, "
        "isinstance(datetime.now(), datetime)\n"
        "def none(): return datetime.max\n",
        names,
    )
    sites, none = names["sites"], names["none"]
    untouched = none.__code__
    clock_sites.guard_sites(sites, called.append)
    clock_sites.guard_sites(none, called.append)
    if sys.version_info < (3, 12):
        assert sites() == (True, True, True)
        assert called == ["datetime.now", "date.today", "datetime.now"]
        clock_sites.guard_sites(sites, called.append)
        assert len(sites()) == len(called) - 3
    assert none.__code__ is untouched
    assert names["datetime"] is dt.datetime
