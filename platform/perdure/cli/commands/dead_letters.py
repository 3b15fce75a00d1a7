"""`perdure dead-letters …`: lists, retries and drops records that could not be processed."""

from __future__ import annotations

import time
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli.contract import ExitCode
from perdure.cli.options.database import DEFAULT_DB, DatabaseOption, database_url
from perdure.cli.options.kafka import KafkaInsteadOption, SettingOption
from perdure.cli.output import (
    Format,
    FormatOption,
    local_time,
    print_facts,
    print_json,
    print_table,
    say,
    utc_time,
)
from perdure.cli.tree import group

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from perdure.ports.dead_letters import DeadLetters, OpenLetter, RetriedRecord

commands = group("List, retry and drop dead letters: records that could not be processed.")

NamespaceOption = Annotated[
    str, typer.Option(help="On Kafka: namespace (prefix of the topics' names).", envvar="PERDURE_NAMESPACE")
]
IdsArgument = Annotated[list[str] | None, typer.Argument(help="Ids as shown by `list`.", metavar="ID")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
AllOption = Annotated[bool, typer.Option("--all", help="All open dead letters.")]

SHOWN_BYTES = 4_096
"""Characters of a value in a table."""
PAGE = 100
"""The number of letters that are read, retried or dropped at a time."""
OUTCOME_S = 5.0
"""How long `retry` waits for the outcomes of its letters, seconds."""
BATCH_BYTES = 8 * 1024 * 1024
"""The size of the letters that are retried at a time, bytes."""


@commands.command("list")
def list_(
    kafka: KafkaInsteadOption = "",
    namespace: NamespaceOption = "",
    settings: SettingOption = None,
    db: DatabaseOption = DEFAULT_DB,
    output: FormatOption = Format.TABLE,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number to show.")] = 1_000,
    after: Annotated[str, typer.Option(help="Start after this id.", metavar="ID")] = "",
) -> None:
    """List those that are neither retried nor dropped, oldest first; of a value the beginning,
    `show` has all of it.
    """
    letters = _dead_letters(kafka, namespace, settings, db)
    found: list[OpenLetter] = []
    while len(found) < limit:
        page = letters.page(min(PAGE, limit - len(found)), after)
        found += page.letters
        after = page.next
        if not after:
            break
    if after:
        typer.echo(f"there are more: --after {after}, or a higher --limit", err=True)
    if output is Format.JSON:
        print_json([_as_json(each) for each in found])
    elif not found:
        typer.echo("no dead letters")
    else:
        rows = [
            (
                each.id,
                each.letter.topic,
                _place(each),
                each.letter.reason,
                _key(each),
                _age(each),
                each.letter.message,
            )
            for each in found
        ]
        print_table(("ID", "TOPIC", "PLACE", "REASON", "KEY", "AGE", "MESSAGE"), rows)


@commands.command()
def show(
    id: Annotated[str, typer.Argument(help="Id as shown by `list`.", metavar="ID")],
    kafka: KafkaInsteadOption = "",
    namespace: NamespaceOption = "",
    settings: SettingOption = None,
    db: DatabaseOption = DEFAULT_DB,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show all of one, its bytes included."""
    letters = _dead_letters(kafka, namespace, settings, db)
    (found,) = _open(letters, [id])
    if output is Format.JSON:
        print_json(_as_json(found))
        return
    letter = found.letter
    print_facts(
        [
            ("id", found.id),
            ("topic", letter.topic),
            ("partition", str(letter.partition)),
            ("offset", str(letter.offset)),
            ("written", local_time(letter.timestamp_ms * 1_000) if letter.timestamp_ms > 0 else ""),
            ("found", local_time(letter.found_at)),
            ("reason", letter.reason),
            ("message", letter.message),
            ("key", _key(found)),
            *((f"header {header.name}", _text(header.value)) for header in letter.headers),
            ("bytes", str(len(letter.value)) if letter.value is not None else "none"),
            ("value", _text(letter.value)),
            ("retry", letters.fault_of(found) or "may succeed"),
        ]
    )


@commands.command()
def retry(
    ids: IdsArgument = None,
    all_: AllOption = False,
    dry_run: DryRunOption = False,
    kafka: KafkaInsteadOption = "",
    namespace: NamespaceOption = "",
    settings: SettingOption = None,
    db: DatabaseOption = DEFAULT_DB,
) -> None:
    """Put them back where they came from, and say what became of them. Exit code 1 and a line for
    each that cannot be retried, or that has become a dead letter again.
    """
    letters = _dead_letters(kafka, namespace, settings, db)
    if dry_run:
        _print_plan("retry", letters, _named(letters, ids, is_all=all_))
        return
    faults: dict[str, str] = {}
    puts: dict[str, RetriedRecord] = {}
    try:
        for some in _batches(_named(letters, ids, is_all=all_)):
            good: list[OpenLetter] = []
            for each in _open(letters, some):
                if fault := letters.fault_of(each):
                    faults[each.id] = fault
                else:
                    good.append(each)
            if good:
                puts |= letters.retry(good)
        failed, waiting = _became(letters, puts)
    except BaseException:
        _print_retried(puts)
        raise
    _print_retried({each: put for each, put in puts.items() if each not in failed}, waiting)
    faults |= {each: f"a dead letter again: {message}" for each, message in failed.items()}
    say(
        {
            "retried": [
                {"id": each, "topic": put.topic, "is_processed": each not in waiting}
                for each, put in puts.items()
                if each not in failed
            ],
            "failed": [{"id": each, "message": fault} for each, fault in faults.items()],
        }
    )
    for faulty, fault in faults.items():
        typer.echo(f"{faulty}: {fault}", err=True)
    if faults:
        typer.echo(f"{len(puts) - len(failed)} retried, {len(faults)} failed", err=True)
        raise typer.Exit(ExitCode.FAILED)


def _became(
    letters: DeadLetters, puts: Mapping[str, RetriedRecord]
) -> tuple[Mapping[str, str], Collection[str]]:
    """The messages of retried records that are dead letters again, and the ids of those that were
    not processed yet.
    """
    if not puts:
        return {}, ()
    outcome = letters.failed_again(puts, OUTCOME_S)
    return outcome.failed, outcome.waiting


def _print_retried(puts: Mapping[str, RetriedRecord], waiting: Collection[str] = ()) -> None:
    for each, put in puts.items():
        say(None, f"{each}: back in {put.topic}" + (", not taken yet" if each in waiting else ""))


def _print_plan(verb: str, letters: DeadLetters, named: Sequence[OpenLetter]) -> None:
    """Print what would be done."""
    faults = {each.id: "" for each in named}
    if verb == "retry":
        for some in _batches(named):
            faults |= {each.id: letters.fault_of(each) for each in _open(letters, some)}
    say(
        {"would": verb, "letters": [{"id": each, "fault": fault or None} for each, fault in faults.items()]},
        *(f"{each}: {fault or f'would {verb}'}" for each, fault in faults.items()),
        f"{sum(not fault for fault in faults.values())} would {verb}; nothing was done",
    )


@commands.command()
def drop(
    ids: IdsArgument = None,
    all_: AllOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm: the dropped requests will never be executed.")
    ] = False,
    dry_run: DryRunOption = False,
    kafka: KafkaInsteadOption = "",
    namespace: NamespaceOption = "",
    settings: SettingOption = None,
    db: DatabaseOption = DEFAULT_DB,
) -> None:
    """Forget them: what they ask for never happens."""
    letters = _dead_letters(kafka, namespace, settings, db)
    named = _named(letters, ids, is_all=all_)
    if dry_run:
        _print_plan("drop", letters, named)
        return
    if not yes:
        raise typer.BadParameter(
            f"{len(named)} would be dropped permanently; add --yes to confirm", param_hint="--yes"
        )
    for begin in range(0, len(named), PAGE):
        some = named[begin : begin + PAGE]
        letters.drop(some)
        for each in some:
            say(None, f"{each.id}: dropped")
    say({"dropped": [each.id for each in named]})


def _dead_letters(kafka: str, namespace: str, settings: list[str] | None, db: str) -> DeadLetters:
    if not kafka:
        from perdure.adapters.sqlite.dead_letters import SqliteDeadLetters

        return SqliteDeadLetters(database_url(db))
    from perdure.cli.options.kafka import place

    if not namespace:
        raise typer.BadParameter(
            "name the namespace: the prefix of the topics' names", param_hint="--namespace"
        )
    where = place(kafka, namespace, settings)
    from perdure.adapters.kafka.admin.dead_letters import KafkaDeadLetters

    return KafkaDeadLetters(where.namespace, where.settings)


def _named(letters: DeadLetters, ids: list[str] | None, *, is_all: bool) -> list[OpenLetter]:
    """Previews of the named letters, each of which must exist, or of all current letters."""
    from perdure.ports.dead_letters import pages

    if bool(ids) is is_all:
        raise typer.BadParameter("name dead letters, or give --all", param_hint="ID")
    if not ids:
        return [_slim(each) for some in pages(letters, PAGE) for each in some]
    return [_slim(_open(letters, [each])[0]) for each in dict.fromkeys(ids)]


def _slim(letter: OpenLetter) -> OpenLetter:
    """A letter without its bytes, to save memory."""
    from msgspec import structs  # the help does not need it

    return replace(letter, letter=structs.replace(letter.letter, key=None, value=None, headers=()))


def _batches(named: Sequence[OpenLetter]) -> Iterator[list[str]]:
    """Groups of ids whose whole letters fit into memory together."""
    some: list[str] = []
    size = 0
    for each in named:
        if some and (len(some) >= PAGE or size + each.size > BATCH_BYTES):
            yield some
            some, size = [], 0
        some.append(each.id)
        size += max(each.size, 0)
    if some:
        yield some


def _open(letters: DeadLetters, ids: Sequence[str]) -> list[OpenLetter]:
    """The whole letters with these ids; each must exist."""
    from perdure.errors import UsageError

    found = letters.get(ids)
    if missing := sorted({*ids} - {each.id for each in found}):
        raise UsageError(f"no open dead letter {missing[0]}; see `perdure dead-letters list`")
    return found


def _as_json(found: OpenLetter) -> dict[str, Any]:
    letter = found.letter
    return {
        "id": found.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "written_at": utc_time(letter.timestamp_ms * 1_000) if letter.timestamp_ms > 0 else None,
        "found_at": utc_time(letter.found_at),
        "reason": letter.reason,
        "message": letter.message,
        "key": _base64(letter.key),
        "value": _base64(letter.value),
        "size": found.size if found.size >= 0 else None,
        "is_whole": found.is_whole,
        "headers": [{"name": header.name, "value": _base64(header.value)} for header in letter.headers],
    }


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def _place(found: OpenLetter) -> str:
    letter = found.letter
    return f"{letter.partition}/{letter.offset}" if letter.offset >= 0 else ""


def _key(found: OpenLetter) -> str:
    return _text(found.letter.key)


def _text(data: bytes | None) -> str:
    """Bytes for people: as text if they are text, else as a Python literal."""
    if data is None:
        return ""
    shown = data[:SHOWN_BYTES]
    more = f" … {len(data) - len(shown)} bytes more" if len(data) > len(shown) else ""
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = ""
    return (text if text.isprintable() and text else repr(shown)) + more


def _age(found: OpenLetter) -> str:
    at = found.letter.found_at
    if not at:
        return ""
    seconds = max(0, time.time_ns() // 1_000 - at) // 1_000_000
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
