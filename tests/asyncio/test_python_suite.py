"""Python's own tests of asyncio, on the loop of a run."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from tests.conftest import Interpreter

MODULES: Final = (
    "test_locks", "test_queues", "test_taskgroups", "test_timeouts", "test_waitfor", "test_tasks",
    "test_futures", "test_futures2",
    "test_pep492", "test_context",
)  # fmt: skip
LEAST: Final = 1_200
"""As many tests as the oldest Python has in these modules, roughly."""

EXPECTED: Final[dict[str, str]] = {
    "test_tasks.RunCoroutineThreadsafeTests.test_*": "needs an executor and other threads: neither is "
    "provided to a run",
    "test_tasks.CoroutineGatherTests.test_issue46672": "looks at a mock in BaseEventLoop, which is not a "
    "base of this loop",
    "test_futures2.FutureReprTests.test_recursive_repr_for_pending_tasks": (
        "makes a Task by hand: only tasks made by create_task have a place in the order of a run, and "
        "all_tasks() gives those"
    ),
}


def test_asyncio_behaves_as_python_tests_it(interpreter: Interpreter) -> None:
    probe = interpreter.run(
        "-c", "import importlib.util as u; print(u.find_spec('test') and u.find_spec('test.test_asyncio'))"
    )
    if probe.strip() == "None":
        pytest.skip(f"this Python {interpreter.version} comes without its own tests")
    results: dict[str, Any] = json.loads(
        interpreter.run(Path(__file__).parent / "suite.py", *MODULES).splitlines()[-1]
    )
    lost = {name: text for result in results.values() for name, text in result["lost"].items()}
    unexpected = {
        name: text for name, text in lost.items() if not any(fnmatch(name, pattern) for pattern in EXPECTED)
    }
    assert not unexpected, "\n".join(f"{name}\n{text}" for name, text in unexpected.items())
    assert sum(result["run"] for result in results.values()) >= LEAST
    assert set(results) == set(MODULES)
