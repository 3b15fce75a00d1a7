"""A module is guarded however it imports its clocks, however often it is watched, and works as
before outside workflows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from perdure.replay import guard
from perdure.replay.guard import NonDeterministic

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

STYLES: Final = {
    "import datetime": ("import datetime", "return datetime.datetime.now()"),
    "import datetime, type of a date": ("import datetime", "return datetime.date.today()"),
    "import datetime as": ("import datetime as dt", "return dt.datetime.now(dt.timezone.utc)"),
    "from datetime import": (
        "from datetime import datetime, timezone",
        "return datetime.now(tz=timezone.utc)",
    ),
    "from datetime import as": ("from datetime import datetime as d", "return d.utcnow()"),
    "from datetime import *": ("from datetime import *", "return datetime.now(), date.today()"),
    "the module and the type": (
        "import datetime as module\nfrom datetime import datetime",
        "return module.datetime.now(), datetime.now()",
    ),
    "import time": ("import time", "return time.time()"),
    "import time as": ("import time as clock", "return clock.monotonic()"),
    "from time import": ("from time import time", "return time()"),
    "from time import *": ("from time import *", "return perf_counter()"),
    "a global": ("from datetime import datetime\nnow = datetime.now", "return now()"),
    "a class attribute": (
        "import datetime\nclass Settings:\n    clock = datetime.datetime.now",
        "return Settings.clock()",
    ),
    "an attribute of an instance's class": (
        "import datetime\nclass Settings:\n    clock = datetime.datetime.now",
        "return Settings().clock()",
    ),
    "a subclass": ("import datetime\nclass Moment(datetime.datetime): pass", "return Moment.now()"),
    "functools.partial": (
        "import datetime, functools\nutc = functools.partial(datetime.datetime.now, datetime.timezone.utc)",
        "return utc()",
    ),
    "a default argument": (
        (
            "import datetime\ndef stamped(clock=datetime.datetime.now, *, other=datetime.datetime.utcnow): "
            "return other(), clock()"
        ),
        "return stamped()",
    ),
    "a closure": (
        (
            "import datetime\ndef make(clock):\n    def stamped(): return clock()\n    return "
            "stamped\nstamped "
            "= make(datetime.datetime.now)"
        ),
        "return stamped()",
    ),
    "a factory of a dataclass": (
        (
            "import datetime, dataclasses\n@dataclasses.dataclass\n"
            "class Stamped:\n    at: object = dataclasses.field(default_factory=datetime.datetime.now)"
        ),
        "return Stamped()",
    ),
    "a lambda": ("import datetime\nclock = lambda: datetime.datetime.now()", "return clock()"),
    "a nested function": (
        "import datetime",
        "def inner(): return [datetime.datetime.now() for _ in range(2)]\n    return inner()",
    ),
    "an imported name of an activity": (
        (
            "import datetime\nfrom perdure import activity\n@activity.defn\ndef stamp() -> str: return "
            "str(datetime.datetime.now())"
        ),
        "return stamp.fn()",
    ),
}
HEAD: Final = "from __future__ import annotations\nfrom perdure import workflow\n"
BODY: Final = """
def work():
    {}

async def program():
    return work()

@workflow.defn(name={!r})
class Guarded:
    @workflow.run
    async def run(self) -> None:
        work()
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    guard.install()


@pytest.fixture
def author(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModuleType]:
    imports, use = STYLES[request.param]
    name = f"perdure_style_{list(STYLES).index(request.param)}"
    file = tmp_path / f"{name}.py"
    file.write_text(HEAD + imports + "\n" + BODY.format(use, name))
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module(name)
    sys.path.remove(str(tmp_path))
    del sys.modules[name]


def refused(driven: Driven, module: Any) -> str:
    with pytest.raises(NonDeterministic) as caught:
        driven.begin(module.program)
    driven.loop.fault = None
    return str(caught.value)


@pytest.mark.parametrize("author", STYLES, indirect=True)
def test_a_module_that_is_watched_twice_is_guarded_and_works_outside_workflows(
    author: Any, driven: Driven
) -> None:
    guard.watch_module(author)
    guard.watch_module(author)
    assert author.work() is not None
    assert refused(driven, author).startswith(f"{author.__file__}:")
    assert author.work() is not None


@pytest.mark.parametrize("author", STYLES, indirect=True)
def test_a_module_that_is_reloaded_is_guarded_again(author: Any, driven: Driven) -> None:
    guard.watch_module(author)
    again: Any = importlib.reload(author)
    guard.watch_module(again)
    assert again.work() is not None
    assert "cannot be used in a workflow" in refused(driven, again)
