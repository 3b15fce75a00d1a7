"""Records of other systems on one machine: taken once, in order; what means nothing is a dead
letter, and may be offered again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from perdure import workflow
from perdure.adapters.sqlite import published
from perdure.adapters.sqlite.dead_letters import SqliteDeadLetters
from perdure.adapters.sqlite.file import connect
from perdure.adapters.sqlite.published import PublishedRecords, publish_record
from perdure.codec.payloads import JsonPayloads
from perdure.codec.records import decode_command, decode_headers, encode_command
from perdure.engine.ports import Batch
from perdure.errors import UsageError
from perdure.model.commands import Request, StartWorkflow
from perdure.model.dead_letters import RecordHeader
from perdure.model.events import RecordProduced
from perdure.model.replies import Refused
from perdure.ports.dead_letters import OpenLetter
from perdure.registry import Registry
from perdure.triggers.binding import Bindings
from perdure.triggers.offering import FIRST_PLACE
from tests.contract.media import SqliteMedia


@workflow.trigger("shop.orders", dict[str, Any], id=lambda value: value["id"])
@workflow.defn
async def sell(order: dict[str, Any]) -> None:
    """Nothing."""


@dataclass
class Shop:
    """A file with a running engine, and triggers on it."""

    path: Path
    said: list[str] = field(default_factory=list[str])

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def __post_init__(self) -> None:
        self.records = PublishedRecords(self.path, Bindings(Registry.of([sell]), JsonPayloads()), self.report)

    def report(self, message: str, /, **_where: str | int) -> None:
        self.said.append(message)

    def publish(self, value: bytes, topic: str = "shop.orders", *headers: tuple[str, bytes]) -> None:
        publish_record(self.url, topic, b"k", value, headers)

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(text).fetchall()

    def commands(self) -> list[StartWorkflow]:
        found = [decode_command(row[0]) for row in self.rows("SELECT record FROM commands ORDER BY position")]
        return [each for each in found if isinstance(each, StartWorkflow)]


@pytest.fixture
def media(tmp_path: Path) -> Iterator[SqliteMedia]:
    media = SqliteMedia(tmp_path)
    yield media
    media.close()


@pytest.fixture
def shop(media: SqliteMedia) -> Iterator[Shop]:
    media.node().open()
    shop = Shop(media.path)
    yield shop
    shop.records.close()


def opened(letters: SqliteDeadLetters) -> list[OpenLetter]:
    """The whole of all."""
    return letters.get([each.id for each in letters.page().letters])


def order(number: int) -> bytes:
    return b'{"id":"o-%d"}' % number


def test_records_are_taken_once_in_order_page_by_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "BATCH", 2)
    for number in range(5):
        shop.publish(order(number))
    assert [shop.records.take() for _ in range(4)] == [2, 2, 1, 0]
    assert [each.workflow_id for each in shop.commands()] == [f"o-{number}" for number in range(5)]
    shop.publish(order(5))
    assert shop.records.take() == 1, "what comes later is seen"
    again = Shop(shop.path)
    assert again.records.take() == 0, "and nobody takes it twice"
    again.records.close()
    assert len(shop.commands()) == 6


def test_records_of_topics_without_a_binding_are_skipped(shop: Shop) -> None:
    shop.publish(order(1), "shop.others")
    shop.publish(order(2))
    assert shop.records.take() == 2
    assert [each.workflow_id for each in shop.commands()] == ["o-2"]


def test_an_undecodable_record_is_a_dead_letter_with_its_value_and_time(shop: Shop) -> None:
    shop.publish(order(1))
    shop.publish(b"{")
    shop.publish(order(3))
    shop.records.take()
    assert [each.workflow_id for each in shop.commands()] == ["o-1", "o-3"]
    (found,) = opened(SqliteDeadLetters(shop.url))
    ((at,),) = shop.rows("SELECT at FROM records WHERE position = 2")
    assert (found.id, found.letter.topic, found.letter.offset, found.letter.value) == (
        "r2",
        "shop.orders",
        2,
        b"{",
    )
    assert found.letter.found_at == at
    assert found.letter.key == b"k", "it is the record's"
    assert "shop.orders, record 2" in shop.said[0]


def test_the_reason_in_the_list_is_the_word_in_the_log(shop: Shop) -> None:
    shop.publish(b"{", "shop.orders", ("trace", b"7"))
    shop.publish(b'{"id": 7}')
    shop.publish(b'{"id": ""}')
    shop.publish(b'{"no": 1}')
    shop.records.take()
    found = opened(SqliteDeadLetters(shop.url))[::-1]
    assert [each.letter.reason for each in found] == ["undecodable", "bad_id", "bad_id", "trigger_failed"]
    assert f"({found[0].letter.reason})" in shop.said[0]
    assert found[0].letter.headers == (RecordHeader("trace", b"7"),)
    assert all(each.letter.message.startswith("shop.orders, record ") for each in found)


def test_letters_of_older_versions_have_the_reason_that_their_message_says(shop: Shop) -> None:
    shop.publish(b"{")
    with closing(connect(shop.path, 5.0)) as connection:
        connection.execute(
            "INSERT INTO dead_letters VALUES (-1, x'7b', 'shop.orders, record 1: it is no JSON', 5), "
            "(-9, x'7b', 'gone, record 9: the resulting command was refused: no', 5)"
        )
    found = [each.letter for each in opened(SqliteDeadLetters(shop.url))]
    assert [(each.topic, each.reason, each.key) for each in found] == [
        ("gone", "refused", None),
        ("shop.orders", "undecodable", b"k"),
    ]


@pytest.mark.parametrize(
    "place", ["a/0/" + "9" * 5_000, "a/0/²", "a/²/1", "other/0/7", "a/0/99999999999999999999", "/0/1", "a"]
)
def test_a_header_that_names_no_place_is_a_header_like_any_other(shop: Shop, place: str) -> None:
    shop.publish(b"{", "shop.orders", (FIRST_PLACE, place.encode()))
    shop.publish(order(1))
    assert shop.records.take() == 2
    assert [each.id for each in opened(SqliteDeadLetters(shop.url))] == ["r1"]
    assert [each.workflow_id for each in shop.commands()] == ["o-1"]


def test_a_letter_of_the_last_place_that_there_can_be_is_dropped_like_any_other(shop: Shop) -> None:
    shop.publish(b"{", "shop.orders", (FIRST_PLACE, b"shop.orders/0/9223372036854775807"))
    shop.records.take()
    letters = SqliteDeadLetters(shop.url)
    (found,) = letters.page().letters
    assert letters.page(1, found.id).letters == []
    letters.drop([found])
    assert letters.page().letters == []


def test_a_retried_command_has_no_client_any_more(shop: Shop) -> None:
    """Its client has its answer: when it is refused again, it leaves only a dead
    letter.
    """
    command = StartWorkflow("o-1", type="sell", reply_to="udp:9:somebody", request_id="r")
    with closing(connect(shop.path, 5.0)) as connection:
        connection.execute(
            "INSERT INTO dead_letters VALUES (7, ?, 'refused: no', 5)", (encode_command(command),)
        )
    letters = SqliteDeadLetters(shop.url)
    letters.retry(opened(letters))
    assert shop.commands() == [replace(command, reply_to="")]


def test_a_letter_that_is_retried_offers_the_record_again_under_its_first_place(shop: Shop) -> None:
    shop.publish(b"{", "shop.orders", ("trace", b"7"))
    shop.records.take()
    letters = SqliteDeadLetters(shop.url)
    (found,) = opened(letters)
    assert letters.fault_of(found) == ""
    letters.retry([found])
    assert opened(letters) == []
    topic, key, value, first_at, last_at = shop.rows(
        "SELECT b.topic, b.key, b.value, a.at, b.at FROM records a, records b WHERE a.position = 1 AND "
        "b.position = 2"
    )[0]
    assert (topic, key, value) == ("shop.orders", b"k", b"{")
    ((headers,),) = shop.rows("SELECT headers FROM records WHERE position = 2")
    assert ("trace", b"7") in [(each.name, each.value) for each in decode_headers(headers)]
    assert first_at <= last_at < first_at + 60_000_000, "microseconds, as that of the first"
    shop.records.take()
    (again,) = opened(letters)
    assert (again.id, again.letter.offset) == ("r1", 1), "it is the same record still"
    with pytest.raises(UsageError, match="r2 no longer exists"):
        letters.retry([again, OpenLetter("r2", again.letter, 1)])
    assert opened(letters) == [again], "all or none"
    letters.drop([again])
    assert opened(letters) == []
    assert len(shop.rows("SELECT 1 FROM records")) == 2, "a drop offers nothing"


def test_a_row_that_is_no_command_is_a_letter_of_the_commands_until_it_is_dropped(shop: Shop) -> None:
    with closing(connect(shop.path, 5.0)) as connection:
        connection.execute(
            "INSERT INTO dead_letters VALUES (7, x'93a141a34f2d31c0', 'cut', 5), (3, x'c1', 'cut', 4)"
        )
    letters = SqliteDeadLetters(shop.url)
    first, second = opened(letters)
    assert [
        (each.id, each.letter.topic, each.letter.offset, each.letter.found_at) for each in (first, second)
    ] == [
        ("3", "commands", 3, 4),
        ("7", "commands", 7, 5),
    ]
    assert (first.letter.key, second.letter.key) == (None, b"O-1"), (
        "the workflow id, as far as it can be made out"
    )
    assert "still cannot be read" in letters.fault_of(first)


def test_what_an_engine_refuses_of_a_record_is_a_letter_of_the_record(media: SqliteMedia) -> None:
    node = media.node().open()
    shop = Shop(media.path)
    for number in range(3):
        shop.publish(order(number))
    shop.records.take()
    replies: list[Any] = []
    for code, command in zip(("bad_input", "already_started", ""), shop.commands(), strict=True):
        assert isinstance(command, Request)
        if code:
            replies.append((command.reply_to, Refused(command.request_id, code, "no")))  # type: ignore[arg-type]
    node.write(
        Batch(
            9,
            replies=replies,
            records=[("w", RecordProduced(1, "own", b"k", b"v", (RecordHeader("a", b"b"),)))],
        )
    )
    (found,) = opened(SqliteDeadLetters(shop.url))
    assert (found.id, found.letter.value, found.letter.found_at) == ("r1", order(0), 9)
    assert "was refused: no" in found.letter.message
    ((topic, key, value, at),) = shop.rows("SELECT topic, key, value, at FROM records WHERE position = 4")
    assert (topic, key, value, at) == ("own", b"k", b"v", 9)
    shop.records.close()
