"""No row of a table is there that no test of this folder has taken. Runs last."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.conftest import HERE, MACHINES, Recorded


def test_every_row_of_every_table_was_taken(
    request: pytest.FixtureRequest, tables: dict[str, Recorded]
) -> None:
    config = request.config
    collected = {item.path for item in request.session.items}
    if config.option.keyword or config.option.markexpr or any("::" in str(arg) for arg in config.args):
        pytest.skip("only some tests were asked for")
    if not set(HERE.glob("test_*.py")) <= collected:
        pytest.skip("only some files were asked for")
    missing = [
        f"{name}: {in_words(row)}" for name, table in tables.items() for row in table.keys() - table.taken
    ]
    print("\n".join(missing))
    assert not missing, "no test takes these rows"


@pytest.mark.parametrize("name", MACHINES)
def test_final_states_have_no_transitions(name: str, tables: dict[str, Recorded]) -> None:
    table = tables[name]
    begins = {status for status, _ in table}
    ends = set(table.values()) - begins
    assert ends, "a machine that cannot end"
    assert all(status not in ends for status, _ in table)


def in_words(row: Any) -> str:
    status, event = row
    return f"{status.name} on {event.__name__}"
