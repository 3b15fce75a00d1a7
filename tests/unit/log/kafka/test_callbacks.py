"""What a callback of librdkafka raises reaches the caller as it is, or nobody."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import perdure.adapters.kafka.callbacks
from perdure.adapters.kafka.callbacks import ClientLogger, as_raised, never_raising

FOLDER = Path(perdure.adapters.kafka.callbacks.__file__).parent
NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 1}
GIVEN = {
    "on_delivery": {"as_raised", "told"},
    "on_commit": {"as_raised"},
    "on_assign": {"as_raised"},
    "on_revoke": {"as_raised"},
    "on_lost": {"as_raised"},
    "error_cb": {"never_raising"},
    "stats_cb": {"never_raising"},
    "throttle_cb": {"never_raising"},
    "oauth_cb": {"as_raised"},
    "logger": {"ClientLogger"},
}
"""By what confluent-kafka calls a callback, the functions that it has to come from."""


def fail(*_: object) -> None:
    int("no number")  # raised by C


def deliver(callback: Any) -> None:
    producer = Producer({**NOWHERE, "logger": ClientLogger(logging.getLogger("silent"))})
    producer.produce("nowhere", b"", on_delivery=callback)
    producer.purge()
    while len(producer):
        producer.poll(0.1)


def test_exception_of_a_delivery_report_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="no number"):
        deliver(as_raised(fail))


class FailingHandler(logging.Handler):
    """A handler of an operator's."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error
        self.calls = 0

    def handle(self, record: logging.LogRecord) -> bool:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_report_that_fails_ends_nothing(error: type[BaseException]) -> None:
    logger = logging.Logger("of one client")  # noqa: LOG001 - so that no other test sees its handler
    logger.addHandler(handler := FailingHandler(error))
    errors: list[Any] = []

    def told(found: Any) -> None:
        errors.append(found)
        raise error

    producer = Producer({**NOWHERE, "logger": ClientLogger(logger), "error_cb": never_raising(told)})
    while not (handler.calls and errors):
        producer.poll(0.1)


def _name(node: ast.expr | None) -> str:
    found = node.func if isinstance(node, ast.Call) else node
    return found.id if isinstance(found, ast.Name) else ""


def _callbacks(tree: ast.AST) -> list[tuple[int, str, str]]:
    """The line, name and maker of every callback that is passed as an argument or a setting."""
    found: list[tuple[int, str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("produce", "subscribe"):
                found += [(node.lineno, each.arg or "", _name(each.value)) for each in node.keywords]
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and not isinstance(value, ast.Constant):
                    found.append((node.lineno, str(key.value), _name(value)))
    return [each for each in found if each[1] in GIVEN]


def test_every_callback_is_given_in_the_one_way() -> None:
    found = [
        (file.name, *each)
        for file in sorted(FOLDER.rglob("*.py"))
        if file.name not in ("settings.py", "framing.py")  # these name them, or pass them on
        and any(name in (text := file.read_text()) for name in GIVEN)
        for each in _callbacks(ast.parse(text))
    ]
    assert len(found) > 12
    wrong = [f"{file}:{line}: {name}" for file, line, name, maker in found if maker not in GIVEN[name]]
    assert not wrong, "see perdure.adapters.kafka.callbacks"
