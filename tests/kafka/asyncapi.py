"""Writes docs/asyncapi.yaml from the registry of topics.

usage: python -m tests.kafka.asyncapi
"""

from __future__ import annotations

from pathlib import Path

import yaml

from perdure.adapters.kafka.admin.asyncapi import document

TARGET = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
HEAD = (
    "# Made from the registry of topics by `python -m tests.kafka.asyncapi`; `perdure topics describe` "
    "prints that of your namespace.\n"
)


def rendered() -> str:
    """The document of the namespace `shop`."""
    return HEAD + yaml.safe_dump(
        document("shop", ["default"]), sort_keys=False, allow_unicode=True, width=120
    )


if __name__ == "__main__":
    TARGET.write_text(rendered())
