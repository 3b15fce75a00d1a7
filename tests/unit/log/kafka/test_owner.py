"""The owner of a namespace, without a Kafka."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from perdure.adapters.kafka.admin.owner import LONGEST_PAUSE_S, OwnerCheck
from perdure.errors import InfrastructureError

NOTHING: Mapping[str, bytes] = {}


def reading(*answers: Mapping[str, bytes] | Exception) -> Callable[[], Mapping[str, bytes]]:
    left = iter(answers)

    def read() -> Mapping[str, bytes]:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


def check(*answers: Mapping[str, bytes] | Exception) -> OwnerCheck:
    return OwnerCheck("orders", {}, "prod/shop", read=reading(*answers))


def test_the_recorded_owner_may_start() -> None:
    assert check({"owner": b"prod/shop"}).is_settled()


def test_another_owner_is_refused_with_both_names_and_what_to_do() -> None:
    with pytest.raises(
        InfrastructureError, match=r"topics of orders belong to test/shop, not to prod/shop.*--take-over"
    ):
        check({"owner": b"test/shop"}).is_settled()


@pytest.mark.parametrize("answer", [NOTHING, InfrastructureError("the broker is down")])
def test_a_namespace_without_topics_or_owner_is_looked_at_again(
    answer: Mapping[str, bytes] | Exception,
) -> None:
    assert not check(answer).is_settled()


def test_the_watch_ends_when_our_name_is_recorded() -> None:
    pauses: list[float] = []
    refused: list[str] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    check(InfrastructureError("down"), NOTHING, {"owner": b"prod/shop"}).watch(refused.append, wait)
    assert (len(pauses), refused) == (3, [])


def test_the_watch_reports_another_owner_once() -> None:
    refused: list[str] = []
    check(NOTHING, {"owner": b"test/shop"}).watch(refused.append, lambda _: False)
    assert len(refused) == 1
    assert "belong to test/shop" in refused[0]


def test_the_watch_asks_less_and_less_often() -> None:
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 9

    check(*[NOTHING] * 9).watch(lambda _: None, wait)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_name_in_bytes_that_are_no_text_is_another_owner() -> None:
    with pytest.raises(InfrastructureError, match="belong to"):
        check({"owner": b"\xff\xfe"}).is_settled()
