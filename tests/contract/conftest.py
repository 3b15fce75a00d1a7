from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.media import MEDIA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.media import Media, Node


@pytest.fixture(params=sorted(MEDIA))
def media(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Media]:
    media = MEDIA[request.param](tmp_path)
    yield media
    media.close()


@pytest.fixture
def node(media: Media) -> Node:
    return media.node().open()
