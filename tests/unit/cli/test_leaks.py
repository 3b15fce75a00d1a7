"""The leaks that `perdure check` finds by reading the code."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from perdure.cli.source_checks.leaks import find_leaks

HEAD = "import asyncio\nfrom perdure import activity, workflow\n"


def in_workflow(statements: str, imports: str = "") -> list[tuple[int, str]]:
    """Line numbers count from the first statement."""
    head = (
        f"{HEAD}{imports}\n@workflow.defn\nclass W:\n    @workflow.run\n    async def run(self, given: "
        "set[str], numbers: set[int]) -> None:\n"
    )
    text = head + indent(dedent(statements).strip(), " " * 8) + "\n"
    return [(leak.line - head.count("\n"), leak.what) for leak in find_leaks({"app": ("app.py", text)})]


@pytest.mark.parametrize(
    ("imports", "statement", "instead"),
    [
        ("from datetime import datetime", "datetime.now()", "workflow.now()"),
        ("import datetime as dt", "dt.datetime.utcnow()", "workflow.now()"),
        ("import datetime", "datetime.date.today()", "workflow.now()"),
        ("from time import time as clock", "clock()", "workflow.now()"),
        ("import time", "time.monotonic_ns()", "workflow.now()"),
        ("import time", "time.sleep(1)", "workflow.sleep"),
        ("import time", "field(default_factory=time.time)", "workflow.now()"),
        ("import random", "random.SystemRandom().random()", "activity"),
        ("from numpy import random", "random.choice([1])", "workflow.random()"),
        ("import random", "random.Random()", "workflow.random()"),
        ("from uuid import uuid1", "uuid1().hex", "workflow.uuid4()"),
        ("", "await workflow.wait_until(lambda: 1, timeout='1s')", "falsy"),
        ("import secrets", "secrets.token_hex()", "activity"),
        ("import os", "os.environ['HOME']", "argument"),
        ("import os", "os.getenv('HOME')", "argument"),
        ("", "open('x')", "activity"),
        ("from pathlib import Path", "Path('x').read_text()", "activity"),
        ("import requests", "requests.get('x')", "activity"),
        ("import httpx", "httpx.AsyncClient().get('x')", "activity"),
        ("import urllib.request", "urllib.request.urlopen('x')", "activity"),
        ("import socket", "socket.create_connection(('x', 1))", "activity"),
        ("import subprocess", "subprocess.run(['ls'])", "activity"),
        ("import threading", "threading.Thread(target=print).start()", "asyncio"),
        ("from concurrent.futures import ThreadPoolExecutor", "ThreadPoolExecutor()", "asyncio"),
        ("", "await asyncio.to_thread(len, [])", "activity"),
        ("", "hash('x')", "stable"),
    ],
)
def test_a_leak_names_its_line_and_what_to_use_instead(imports: str, statement: str, instead: str) -> None:
    found = in_workflow(f"x = 1\n{statement}", imports)
    assert [line for line, _ in found] == [2]
    assert instead in found[0][1]


@pytest.mark.parametrize(
    ("imports", "statement"),
    [
        ("import random", "random.Random(7).random()"),
        ("import random", "random.choice([1]); random.random()"),  # answered from the run's own stream
        ("from random import shuffle", "shuffle([1])"),
        ("from uuid import uuid4", "uuid4().hex"),
        ("", "await workflow.wait_until(lambda: 1)"),
        ("", "if not await workflow.wait_until(lambda: 1, timeout='1s'):\n    pass"),
        ("", "_ = await workflow.wait_until(lambda: 1, timeout='1s')"),
        ("from datetime import datetime, timedelta", "datetime(2026, 1, 1) + timedelta(days=1)"),
        ("from datetime import datetime", "x: datetime = workflow.now()"),
        ("", "workflow.random().choice([1]); workflow.uuid4(); workflow.now()"),
        ("import httpx", "try:\n    pass\nexcept httpx.HTTPError:\n    raise httpx.HTTPError('x')"),
        ("from uuid import UUID", "UUID(int=1)"),
        ("import os", "os.path.join('a', 'b')"),
        ("from pathlib import PurePosixPath", "PurePosixPath('x').name"),
        ("", "await asyncio.sleep(1)"),
    ],
)
def test_what_replays_alike_is_left_alone(imports: str, statement: str) -> None:
    assert not in_workflow(statement, imports)


@pytest.mark.parametrize(
    "statement",
    [
        "for x in given: ...",
        "for x in {'a', 'b'}: ...",
        "for x in set(['a']): ...",
        "for x in given | {'a'}: ...",
        "for x in given.union(numbers): ...",
        "seen = set(); list(seen)",
        "', '.join(given)",
        "[x for x in given]",
        "await asyncio.gather(*[asyncio.sleep(0) for _ in given])",
        "print(*given)",
        "given.pop()",
        "def inner():\n    for x in given: ...",
    ],
)
def test_the_order_of_a_set_of_text_is_a_leak(statement: str) -> None:
    assert any("sorted" in what for _, what in in_workflow(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "for x in sorted(given): ...",
        "sorted(x for x in given)",
        "any(x == 'a' for x in given); len(given); max(given)",
        "{x.upper() for x in given}",
        "for x in numbers: ...",
        "for x in {1, 2}: ...",
        "done: set[int] = set()\nfor x in done: ...",
        "def other(given: list[str]):\n    for x in given: ...",
        "'a' in given",
        "[1].pop()",
    ],
)
def test_a_set_whose_order_does_not_show_is_left_alone(statement: str) -> None:
    assert not in_workflow(statement)


def test_attributes_declared_in_the_class_are_known() -> None:
    text = HEAD + dedent("""
        @workflow.defn
        class W:
            names: set[str]
            ids: set[int]
            def __init__(self) -> None:
                self.more: set[str] = set()
            @workflow.run
            async def run(self) -> None:
                for x in self.ids: ...
                for x in self.names: ...
                for x in self.more: ...
        """)
    lines = text.splitlines()
    assert [lines[leak.line - 1].strip() for leak in find_leaks({"app": ("app.py", text)})] == [
        "for x in self.names: ...",
        "for x in self.more: ...",
    ]


def test_activities_and_code_that_no_workflow_calls_may_do_what_they_like() -> None:
    text = HEAD + dedent("""
        import time
        @activity.defn
        async def act() -> float: return time.time()
        @activity.step(timeout="1s")
        def step() -> float: return time.time()
        def unused() -> float: return time.time()
        @workflow.defn
        class W:
            @workflow.run
            async def run(self) -> None:
                await act()
                await step()
        """)
    assert not find_leaks({"app": ("app.py", text)})


def test_functions_and_classes_that_a_workflow_uses_are_read_too_in_other_modules_also() -> None:
    app = HEAD + dedent("""
        from shop import prices
        from shop.clock import Clock
        from shop.parent import Parent
        @workflow.defn(name="w")
        class W(Parent):
            @workflow.run
            async def run(self) -> None:
                prices.of("x")
                Clock()
        """)
    found = find_leaks(
        {
            "app": ("app.py", app),
            "shop.prices": ("shop/prices.py", "from .chance import roll\ndef of(x): return roll()\n"),
            "shop.chance": (
                "shop/chance.py",
                (
                    "import secrets\ndef roll(): return secrets.randbits(3)\ndef other(): return "
                    "secrets.randbits(3)\n"
                ),
            ),
            "shop.clock": (
                "shop/clock.py",
                "import time\nclass Clock:\n    def __init__(self): self.at = time.time()\n",
            ),
            "shop.parent": (
                "shop/parent.py",
                "import os\nclass Parent:\n    def where(self): return os.getcwd()\n",
            ),
        }
    )
    assert [(leak.file, leak.line) for leak in found] == [
        ("shop/chance.py", 2),
        ("shop/clock.py", 3),
        ("shop/parent.py", 3),
    ]


def test_a_function_workflow_is_read() -> None:
    text = HEAD + "import time\n@workflow.defn\nasync def w() -> float:\n    return time.time()\n"
    assert [str(leak) for leak in find_leaks({"app": ("app.py", text)})] == [
        "app.py:6: time.time() reads the clock: use workflow.now()"
    ]


AWAITING = """
import asyncio
from perdure import activity, workflow

@activity.defn
async def charge(n: int = 0) -> int: ...

@activity.step
def weigh(n: int = 0) -> int: ...

async def ready(n: int = 0) -> bool: ...

async def numbers():
    yield 1

class Box:
    @activity.defn
    async def keep(self, n: int = 0) -> int: ...

@workflow.defn
class W:
    async def helper(self, n: int = 0) -> int: ...

    def plain(self, n: int = 0) -> int: ...

    @workflow.run
    async def run(self, n: int):
"""


def forgotten(statements: str) -> list[int]:
    """The lines that lack an `await`, from the first statement."""
    text = AWAITING + indent(dedent(statements).strip(), " " * 8) + "\n"
    found = find_leaks({"app": ("app.py", text)})
    assert all(leak.what.startswith("`await` is missing before ") for leak in found)
    return [leak.line - AWAITING.count("\n") for leak in found]


@pytest.mark.parametrize(
    "call",
    [
        "charge(n)", "charge.options(timeout=n)(n)", "weigh(n)", "ready(n)", "self.helper(n)", "Box.keep(n)",
        "workflow.wait_until(lambda: n)", "workflow.sleep(n)", "asyncio.sleep(1)",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "use",
    [
        "{}", "if {}: ...", "while {}: ...", "x = 1 if {} else 2", "x = f'{{{}}}'", "n += {}", "x = 1 + {}",
        "x = {} == 3",
        "x = {} is None", "x = not {}", "for x in {}: ...", "x = [y for y in {}]", "x = {}['a']", "x = {}.a",
        "return {}",
        "x = n and {}", "assert {}", "match {}:\n    case 3: ...", "print({})", "x = int({})",
        "await charge({})", "await charge(n={})",
        "await charge.options(summary='x')({})", "x = {}\nif x: ...", "x = {}", "self.x = {}\nif self.x: ...",
        "self.x: int = {}",
    ],
)  # fmt: skip
def test_a_missing_await_is_found_wherever_the_value_is_used(call: str, use: str) -> None:
    assert forgotten(use.format(call)) == [1]


@pytest.mark.parametrize(
    "statements",
    [
        "await charge(n)",
        "if await charge(n): ...",
        "await asyncio.gather(charge(n), self.helper())",
        "await asyncio.gather(*[charge(x) for x in [n]])",
        "x = asyncio.create_task(charge(n))\nawait x",
        "async with asyncio.TaskGroup() as group:\n    group.create_task(charge(n))",
        "x = charge(n)\nawait x",
        "x = charge(n)\nawait asyncio.gather(x)",
        "x = charge(n) if n else weigh(n)\nawait x",
        "x = [charge(n)]\nawait asyncio.gather(*x)",
        "x = charge(n)\nasync def inner():\n    await x\nawait inner()",
        "self.x = charge(n)\nawait self.x",
        "self.x = charge(n)\nawait asyncio.wait_for(self.x, 1)",
        "charge(n).close()",
        "return await charge(n)",
        "async for x in numbers(): ...",
        "if self.plain(n): ...",
        "def later():\n    return charge(n)\nawait later()",
        "x = lambda: charge(n)\nawait x()",
        "async with workflow.saga() as saga:\n    saga.compensate(charge, n)",
    ],
)
def test_a_call_that_is_awaited_or_passed_on_is_left_alone(statements: str) -> None:
    assert forgotten(statements) == []


def test_what_a_signal_handler_returns_is_not_awaited_by_anyone() -> None:
    text = AWAITING + "        ...\n    @workflow.signal\n    async def paid(self): return charge()\n"
    assert [leak.line for leak in find_leaks({"app": ("app.py", text)})] == [text.count("\n")]
