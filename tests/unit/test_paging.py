"""Pages of a history: cut by number and by size, and read no further than that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.codec import paging
from perdure.codec.paging import is_of, page_from, page_of
from perdure.codec.records import decode_event_record, encode_event_record
from tests.contract.samples import record


def rows(count: int, size: int = 10) -> Iterator[tuple[int, bytes]]:
    """Records of two events each."""
    return ((1 + 2 * number, b"x" * size) for number in range(count))


@pytest.mark.parametrize(
    ("begin", "limit", "records", "following"),
    [
        (1, 1, 1, 3),
        (1, 2, 1, 3),
        (1, 3, 2, 5),
        (2, 1, 1, 3),
        (2, 2, 2, 5),
        (1, 200, 100, 0),
        (1, 199, 100, 0),
        (1, 198, 99, 199),
    ],
)
def test_a_page_has_the_records_of_its_events_and_says_where_the_next_one_begins(
    begin: int, limit: int, records: int, following: int
) -> None:
    page = page_of(rows(100), begin, limit)
    assert (len(page.records), page.next_event_id) == (records, following)


def test_a_page_ends_before_it_is_too_large_but_has_one_record_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paging, "PAGE_BYTES", 100)
    assert (page_of(rows(100, 30), 1).next_event_id, len(page_of(rows(100, 30), 1).records)) == (7, 3)
    assert len(page_of(rows(100, 500), 1).records) == 1


def test_a_page_of_a_long_history_reads_one_record_more_than_it_has() -> None:
    found = rows(1_000)
    page_of(found, 1, 1)
    assert next(found)[0] == 5


def test_pages_of_any_size_join_to_the_history() -> None:
    history = [record("run-1", 1 + 2 * number, at=number) for number in range(20)]
    for limit in (1, 2, 3, 7, 39, 40, 41):
        found, begin = list[bytes](), 1
        while begin:
            page = page_from(history, begin, limit)
            found += page.records
            begin = page.next_event_id
        assert [decode_event_record(each) for each in found] == history


def test_a_record_is_of_the_workflow_that_it_names_and_one_that_cannot_be_read_may_be_of_any() -> None:
    encoded = encode_event_record(record(workflow_id="w"))
    assert is_of(encoded, "w")
    assert not is_of(encoded, "v")
    assert is_of(b"\xff", "v")
    assert is_of(b"\x98\xa2\xff\xff", "v"), "a text that is no UTF-8"
