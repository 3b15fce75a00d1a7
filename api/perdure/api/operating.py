"""Routes for operators: task queues, workers, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.responses import Response

from perdure.api.admitted import AdmittedRequest
from perdure.api.json_views import letter
from perdure.api.parameters import only, segment, whole
from perdure.api.problems import problem
from perdure.api.roles import Role
from perdure.api.routing import ENCODER, Routes, encoded, json
from perdure.ports.dead_letters import PAGE_LIMIT

if TYPE_CHECKING:
    from perdure.ports.dead_letters import DeadLetters, OpenLetter

T = TypeVar("T")
routes = Routes()
_LETTER: Final[dict[str, Any]] = {
    "id": "0/17", "topic": "shop.commands", "partition": 3, "offset": 1042,
    "written_at": "2027-01-31T12:00:00.000000Z",
    "found_at": "2027-01-31T12:00:00.100000Z", "reason": "undecodable", "message": "it has no schema header",
    "key": "b3JkZXItMQ==",
    "value": "//8=", "size": 2, "is_whole": True, "headers": [],
}  # fmt: skip


@routes.add("GET", "/queues", Role.VIEWER, "List the task queues")
async def list_queues(asked: AdmittedRequest) -> Response:
    """List task queues, each with its waiting tasks and its workers."""
    only(asked.request.query_params)
    operations = asked.backend.operations
    return json({"queues": await asyncio.to_thread(operations.queues) if operations is not None else []})


@routes.add("GET", "/workers", Role.VIEWER, "List the workers")
async def list_workers(asked: AdmittedRequest) -> Response:
    """List the current workers."""
    only(asked.request.query_params)
    operations = asked.backend.operations
    return json({"workers": await asyncio.to_thread(operations.workers) if operations is not None else []})


@routes.add(
    "GET", "/dead-letters", Role.READER, "List the dead letters",
    parameters=[
        {"name": "limit", "in": "query", "schema": {"type": "string"},
            "description": f"Page size, 1 to {PAGE_LIMIT}."},
        {"name": "cursor", "in": "query", "schema": {"type": "string"},
            "description": "`next` of the previous page."},
    ],
    responses={"200": {"description": "A page",
            "content": {"application/json": {"example": {"dead_letters": [_LETTER], "next": None}}}}},
)  # fmt: skip
async def list_dead_letters(asked: AdmittedRequest) -> Response:
    """List dead letters: records that could not be processed, oldest first. A page has the
    beginning of each part; read a single letter to get all of it.
    """
    parameters = asked.request.query_params
    only(parameters, "limit", "cursor")
    limit, after = whole(parameters, "limit", 100, 1, PAGE_LIMIT), parameters.get("cursor", "")

    def read(letters: DeadLetters) -> bytes:
        page = letters.page(limit, after)
        with asked.backend.large.turn():
            return ENCODER.encode(
                {"dead_letters": [letter(each) for each in page.letters], "next": page.next or None}
            )

    return encoded(await _letters(asked, read))


@routes.add(
    "GET", "/dead-letters/{number}", Role.READER, "One dead letter",
    responses={"200": {"description": "The whole dead letter",
            "content": {"application/json": {"example": _LETTER}}}},
)  # fmt: skip
async def read_dead_letter(asked: AdmittedRequest) -> Response:
    """Read one dead letter by its id, in which a slash is written %2F."""
    only(asked.request.query_params)
    number = segment(asked.request.path_params["number"], "dead letter's id")
    return encoded(await _letters(asked, lambda letters: ENCODER.encode(letter(_found(letters, number)))))


def _ending(path: str, summary: str, end: Callable[[DeadLetters, OpenLetter], None]) -> None:
    @routes.add("POST", f"/dead-letters/{{number}}/{path}", Role.ADMIN, summary, action=f"{path} dead letter")
    async def done(asked: AdmittedRequest) -> Response:
        only(asked.request.query_params)
        number = segment(asked.request.path_params["number"], "dead letter's id")
        asked.about(number)

        def work(letters: DeadLetters) -> None:
            end(letters, _found(letters, number))

        await _letters(asked, work)
        return json({"id": number, "became": "retried" if path == "retry" else "dropped"})

    done.__name__ = f"{path}_dead_letter"


def _retry(letters: DeadLetters, found: OpenLetter) -> None:
    if fault := letters.fault_of(found):
        raise problem("invalid-request", fault)
    letters.retry([found])


_ending("retry", "Retry a dead letter", _retry)
_ending("drop", "Drop a dead letter", lambda letters, found: letters.drop([found]))


def _found(letters: DeadLetters, number: str) -> OpenLetter:
    for found in letters.get([number]):
        return found
    raise problem("dead-letter-not-found", f"no open dead letter {number!r}")


async def _letters(asked: AdmittedRequest, work: Callable[[DeadLetters], T]) -> T:
    opened = asked.backend.dead_letters

    def run() -> Any:
        if opened is None:
            raise problem("dead-letter-not-found", "this platform keeps no dead letters")
        return work(opened())

    return await asked.backend.large.run(run)
