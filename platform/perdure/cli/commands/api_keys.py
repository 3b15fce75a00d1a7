"""`perdure api-keys …`: who may use the HTTP API, and as what."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.options.times import duration_of
from perdure.cli.output import Format, FormatOption, print_json, print_table, say
from perdure.cli.tree import group

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.api.auth.key_file import StoredKey

commands = group("Create, list and revoke keys of the HTTP API.")


class RoleName(StrEnum):
    """Role of a key; each includes the permissions of the one before."""

    VIEWER = "viewer"
    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"


KeysOption = Annotated[
    str, typer.Option("--keys", help="File of API keys.", metavar="FILE", envvar="PERDURE_API_KEYS")
]


@commands.command()
def create(
    name: Annotated[
        str, typer.Argument(help="Name of the key's holder, as shown in the audit log.", metavar="NAME")
    ],
    role: Annotated[
        RoleName,
        typer.Option(
            help="viewer: states without payloads; reader: also views, histories and queries; operator: also "
            "starts, signals and ends workflows; admin: also retries and drops dead letters."
        ),
    ] = RoleName.READER,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Namespace the key is valid in; may be repeated. * for all.")
    ] = None,
    expires: Annotated[
        str, typer.Option(help='Expires after this time, such as "90 days". Never by default.')
    ] = "",
    keys: KeysOption = "keys.toml",
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a key. It is printed here, and never again: the file has only what it is recognised
    by.
    """
    from pathlib import Path

    from perdure.api.auth.key_file import create_key
    from perdure.api.roles import Role

    if not namespace:
        raise typer.BadParameter(
            "name the namespaces the key is valid in, or '*' for all", param_hint="--namespace"
        )
    key, stored = create_key(Path(keys), name, Role(role.value), namespace, _expiry(expires))
    if output is Format.JSON:
        print_json({**_shown(stored), "key": key})
        return
    typer.echo(
        f"made key {stored.id} for {name}, {role.value} in {', '.join(namespace)}; keep it now, it is not "
        "shown again:",
        err=True,
    )
    typer.echo(key)


@commands.command("list")
def list_(keys: KeysOption = "keys.toml", output: FormatOption = Format.TABLE) -> None:
    """List the keys of the file."""
    from datetime import UTC, datetime
    from pathlib import Path

    from perdure.api.auth.key_file import read_keys

    found = read_keys(Path(keys))
    if output is Format.JSON:
        print_json([_shown(key) for key in found])
        return
    if not found:
        typer.echo("no keys")
        return
    now = datetime.now(UTC)
    rows = [
        (
            key.id,
            key.name,
            key.role.value,
            ", ".join(key.namespaces),
            _day(key.created),
            "expired" if key.has_expired(now) else _day(key.expires),
        )
        for key in found
    ]
    print_table(("ID", "NAME", "ROLE", "NAMESPACES", "CREATED", "EXPIRES"), rows)


@commands.command()
def revoke(
    id: Annotated[str, typer.Argument(help="Id as shown by `list`.", metavar="ID")],
    keys: KeysOption = "keys.toml",
) -> None:
    """Take a key out of the file: the next request with it is refused."""
    from pathlib import Path

    from perdure.api.auth.key_file import revoke_key

    name = revoke_key(Path(keys), id).name
    say({"id": id, "name": name, "revoked": True}, f"{id}: revoked, it was {name}'s")


def _expiry(text: str) -> datetime | None:
    from datetime import UTC, datetime, timedelta

    from perdure.errors import UsageError
    from perdure.model.duration import microseconds

    if not duration_of(text, "--expires"):
        return None
    try:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(microseconds=microseconds(text))
    except OverflowError:
        raise UsageError(
            f"{text!r} is too far in the future; omit --expires for a key that never expires"
        ) from None


def _shown(key: StoredKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role.value,
        "namespaces": key.namespaces,
        "created": key.created,
        "expires": key.expires,
    }


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment is not None else ""
