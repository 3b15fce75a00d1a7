"""The licences of what is shipped with perdure: docs/licences.md, by the metadata of what is
installed.

    python deploy/dependencies/licences.py > docs/licences.md        `make licences`

Shipped is what the extras for production bring, directly or not; tools of developers are not.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from deploy.dependencies.pins import closure, direct, read

SHIPPED: Final = ("api", "examples", "http", "kafka", "otel", "payloads", "postgres")
_HEAD: Final = """\
# Licences

What perdure is shipped with, by its metadata. Perdure itself is Apache-2.0. Made by
`make licences`; a test checks it against constraints.txt.

| package | version | licence | for |
|---|---|---|---|
"""
_FOOT: Final = """
Wheels with native code hold more: librdkafka (BSD-2-Clause) in confluent-kafka, RocksDB
(Apache-2.0) in rocksdict, libpq (PostgreSQL) in psycopg-binary, OpenSSL (Apache-2.0) in
cryptography, confluent-kafka and psycopg-binary. psycopg is LGPL: it is imported, not changed.
"""
_CLASSIFIER: Final = "License :: OSI Approved :: "


def licence_of(name: str) -> str:
    """The SPDX expression of a distribution that is installed, or what its classifiers or its
    licence field say.
    """
    found: Any = metadata.metadata(name)  # a mail message, whatever its type says
    if expression := found.get("License-Expression"):
        return str(expression)
    classified: list[str] = [
        each.removeprefix(_CLASSIFIER)
        for each in found.get_all("Classifier") or ()
        if each.startswith(_CLASSIFIER)
    ]
    return ", ".join(classified) or str(found.get("License") or "unknown").splitlines()[0][:80]


def main() -> None:
    """Print the document."""
    pins = read()
    needed = {extra: closure(direct({extra}), pins) for extra in SHIPPED}
    always = closure(direct(set()), pins)
    print(_HEAD, end="")
    for name in sorted(set[str]().union(*needed.values())):
        if "sys_platform == 'win32'" in pins[name].text:
            continue
        why = "perdure" if name in always else ", ".join(extra for extra in SHIPPED if name in needed[extra])
        print(f"| {name} | {pins[name].version} | {licence_of(name)} | {why} |")
    print(_FOOT, end="")


if __name__ == "__main__":
    main()
