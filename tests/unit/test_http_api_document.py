"""The how-to of the HTTP API names every route and every kind of problem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perdure.api.app import ROUTES
from perdure.api.problems import TITLES

DOCUMENT = Path(__file__).parents[2] / "docs/howto/http-api.md"
PROSE = re.sub(r"```.*?```", "", DOCUMENT.read_text(), flags=re.DOTALL)
CODE = " ".join(re.findall(r"`([^`]+)`", PROSE))


@pytest.mark.parametrize("slug", TITLES)
def test_every_kind_of_problem_is_in_the_document(slug: str) -> None:
    assert re.search(rf"(?<![\w-]){slug}(?![\w-])", CODE)


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_every_route_is_in_the_document(path: str) -> None:
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    assert not [part for part in parts if not re.search(rf"(/|…/){part}\b", CODE)]
