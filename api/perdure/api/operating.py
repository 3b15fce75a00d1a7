"""What operators look after: task queues, workers, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response

from perdure.api.parameters import only, segment
from perdure.api.problems import problem
from perdure.api.roles import Role
from perdure.api.routing import Asked, Routes, json
from perdure.api.shapes import letter

if TYPE_CHECKING:
    from perdure.log.dead_letters import DeadLetters, OpenLetter

T = TypeVar("T")
routes = Routes()


@routes.add("GET", "/queues", Role.VIEWER, "List the task queues")
async def list_queues(asked: Asked) -> Response:
    """Each with the tasks that wait and the workers that serve it."""
    only(asked.request.query_params)
    operations = asked.backend.operations
    return json({"queues": await asyncio.to_thread(operations.queues) if operations is not None else []})


@routes.add("GET", "/workers", Role.VIEWER, "List the workers")
async def list_workers(asked: Asked) -> Response:
    """Those that are there now."""
    only(asked.request.query_params)
    operations = asked.backend.operations
    return json({"workers": await asyncio.to_thread(operations.workers) if operations is not None else []})


@routes.add("GET", "/dead-letters", Role.READER, "List the dead letters")
async def list_dead_letters(asked: Asked) -> Response:
    """Records that could not be taken, oldest first."""
    only(asked.request.query_params)
    return json({"dead_letters": [letter(each) for each in await _letters(asked, lambda letters: letters.open())]})


@routes.add("GET", "/dead-letters/{number}", Role.READER, "One dead letter")
async def read_dead_letter(asked: Asked) -> Response:
    """By its id, whose slash is %2F."""
    only(asked.request.query_params)
    number = segment(asked.request.path_params["number"], "dead letter's id")
    return json(letter(await _letters(asked, lambda letters: _found(letters, number))))


def _ending(path: str, summary: str, end: Callable[[DeadLetters, OpenLetter], None]) -> None:
    @routes.add("POST", f"/dead-letters/{{number}}/{path}", Role.ADMIN, summary, action=f"{path} dead letter")
    async def done(asked: Asked) -> Response:
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


_ending("retry", "Put a dead letter back where it came from", _retry)
_ending("drop", "Forget a dead letter", lambda letters, found: letters.drop([found]))


def _found(letters: DeadLetters, number: str) -> OpenLetter:
    for each in letters.open():
        if each.id == number:
            return each
    raise problem("not-found", f"there is no open dead letter {number!r}")


async def _letters(asked: Asked, work: Callable[[DeadLetters], T]) -> T:
    opened = asked.backend.dead_letters

    def run() -> Any:
        if opened is None:
            raise problem("not-found", "this platform keeps no dead letters")
        return work(opened())

    return await asyncio.to_thread(run)
