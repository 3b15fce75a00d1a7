"""`workflow.step` outside of a run, and what it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_type

import pytest

from perdure import activity, testing, workflow
from perdure.errors import UsageError
from perdure.model.signature import returns_of


@dataclass
class Receipt:
    cents: int


def charge(cents: int) -> Receipt:
    return Receipt(cents)


async def charge_later(cents: int) -> Receipt:
    await asyncio.sleep(0)
    return Receipt(cents)


async def _types() -> None:  # pyright: ignore[reportUnusedFunction]  for type checkers
    assert_type(await workflow.step("charge", charge, 3), Receipt)
    assert_type(await workflow.step("charge", charge_later, 3), Receipt)
    assert_type(await workflow.step("five", lambda: 5), int)


@activity.defn
async def registered() -> None: ...


def run(coroutine: Any) -> Any:
    return asyncio.run(_awaited(coroutine))


async def _awaited(make: Any) -> Any:
    return await make()


def test_outside_of_a_run_the_function_is_called_once() -> None:
    assert run(lambda: workflow.step("charge", charge, 3)) == Receipt(3)
    assert run(lambda: workflow.step("charge", charge_later, 4)) == Receipt(4)
    assert run(lambda: workflow.step("charge", lambda: charge_later(5))) == Receipt(5)

    def fails() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(lambda: workflow.step("fails", fails, at_most_once=True))


def test_outside_of_a_run_the_attempt_of_a_test_is_the_step_s() -> None:
    with testing.attempt(idempotency_key="k", attempt=2):
        info = run(lambda: workflow.step("charge", activity.info))
    assert (info.activity, info.attempt, info.idempotency_key) == ("charge", 2, "k")


def test_a_step_inside_a_step_is_refused_with_advice() -> None:
    async def outer() -> Any:
        return await workflow.step("inner", charge, 1)

    with pytest.raises(UsageError, match=r"step 'inner' is called inside another .* Call its function\."):
        run(lambda: workflow.step("outer", outer))


NEEDS_AN_ARGUMENT: Any = charge


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: workflow.step("", charge, 1), "the name of a step must not be empty"),
        (
            lambda: workflow.step("é" * 128, charge, 1),
            "the name of a step is 256 bytes long, the limit is 255",
        ),
        (lambda: workflow.step("a\nb", charge, 1), "contains the character U\\+000A"),
        (lambda: workflow.step(3, charge, 1), "the name of a step must be text, not int"),  # type: ignore[call-overload]
        (lambda: workflow.step("s", charge_later(1)), "takes a function, not the coroutine"),  # type: ignore[call-overload]
        (lambda: workflow.step("s", 5), "takes a function, not 5"),  # type: ignore[call-overload]
        (lambda: workflow.step("s", registered), "await its call, or pass its `fn`"),
        (
            lambda: workflow.step("s", charge, 1, reconcile=lambda: Receipt(1)),
            "which needs at_most_once=True",
        ),
        (
            lambda: workflow.step("s", charge, 1, at_most_once=True, reconcile=5),  # type: ignore[call-overload]
            "reconcile of step 's' must be a function, not 5",
        ),
        (
            lambda: workflow.step("s", charge, 1, at_most_once=True, reconcile=NEEDS_AN_ARGUMENT),
            "reconcile of step 's' takes no arguments: give a closure",
        ),
    ],
)
def test_invalid_options_are_refused_with_their_line(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"test_workflow_step.py:\\d+: workflow.step: .*{message}"):
        call()


def test_a_name_of_255_bytes_is_taken() -> None:
    assert run(lambda: workflow.step("x" * 255, lambda: 1)) == 1


class Charger:
    def __call__(self) -> Receipt:
        return Receipt(1)

    def charge(self) -> Receipt:
        return Receipt(1)


def test_results_are_decoded_by_the_return_annotation_of_any_callable() -> None:
    @dataclass
    class Local:
        cents: int

    def local() -> Local:
        return Local(1)

    def many() -> dict[str, list[Receipt]]:
        return {}

    for fn in (
        charge,
        charge_later,
        partial(charge, 1),
        partial(partial(charge, 1)),
        Charger(),
        Charger().charge,
    ):
        assert returns_of(fn) is Receipt
    assert returns_of(local) is Local
    assert returns_of(many) == dict[str, list[Receipt]]
    for untyped in (lambda: 1, len, int, Receipt):
        assert returns_of(untyped) is Any


def test_closures_of_one_code_have_the_annotations_of_their_own_scope() -> None:
    def make() -> tuple[type[Any], Any]:
        @dataclass
        class Local:
            cents: int

        def fn() -> Local:
            return Local(1)

        return Local, returns_of(fn)

    for _ in range(2):
        kind, found = make()
        assert found is kind
