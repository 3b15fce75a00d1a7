"""`perdure publish`: a record for a topic, as another system would send it."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.options.database import DEFAULT_DB, DatabaseOption
from perdure.cli.options.kafka import KafkaInsteadOption, SettingOption
from perdure.cli.output import say


def publish(
    topic: Annotated[str, typer.Argument(help="The topic.", metavar="TOPIC")],
    value: Annotated[
        str, typer.Argument(help="JSON; anything that does not look like JSON is text.", metavar="VALUE")
    ],
    key: Annotated[str, typer.Option(help="The record's key.")] = "",
    header: Annotated[list[str] | None, typer.Option(help="Header, NAME=VALUE; may be repeated.")] = None,
    kafka: KafkaInsteadOption = "",
    settings: SettingOption = None,
    db: DatabaseOption = DEFAULT_DB,
) -> None:
    """Send a record to a topic: of Kafka, or of the file of a `perdure dev`, whose triggers take
    it.
    """
    import msgspec

    from perdure.errors import UsageError

    if any(not _is_text(each) for each in (value, topic, key, *(header or ()))):
        raise UsageError("an argument is not UTF-8 text")
    try:
        data = msgspec.json.encode(msgspec.json.decode(value))
    except RecursionError:
        raise UsageError(f"{value!r:.80} is nested too deeply") from None
    except msgspec.MsgspecError:
        if value[:1] in {"{", "[", '"'}:
            raise UsageError(f"{value!r:.80} is neither JSON nor text") from None
        data = msgspec.json.encode(value)
    pairs = [each.partition("=") for each in header or ()]
    if bad := [name for name, equals, _ in pairs if not equals]:
        raise typer.BadParameter(f"{bad[0]!r} is not NAME=VALUE", param_hint="--header")
    headers = [(name, text.encode()) for name, _, text in pairs]
    if kafka:
        from perdure.adapters.kafka.admin.publishing import publish_record
        from perdure.cli.options.kafka import place

        publish_record(place(kafka, "publish", settings).settings, topic, key.encode() or None, data, headers)
    else:
        from perdure.adapters.sqlite.published import publish_record as publish_to_file
        from perdure.cli.options.database import database_url

        publish_to_file(database_url(db), topic, key.encode() or None, data, headers)
    say({"topic": topic}, f"published to {topic}")


def _is_text(given: str) -> bool:
    """Whether it has no lone surrogates, which stand for bytes that are not UTF-8."""
    return given.isascii() or not any("\ud800" <= each <= "\udfff" for each in given)
