"""Reading the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure.api.admitted import AdmittedRequest
from perdure.api.json_views import moment
from perdure.api.parameters import only, whole
from perdure.api.roles import Role
from perdure.api.routing import Routes, json
from perdure.ports.audit import PAGE_LIMIT

if TYPE_CHECKING:
    from starlette.responses import Response

    from perdure.api.audit import AuditLog
    from perdure.api.routing import Route
    from perdure.ports.audit import StoredEntry

_EXAMPLE: Final = {
    "number": 4711, "at": "2027-01-31T12:00:00.000000Z", "who": "key:5f0c2b9a1d3e checkout",
    "role": "operator", "action": "start",
    "target": "order-1", "outcome": "done", "status": 201, "detail": "", "request_id": "0f8b",
    "address": "10.0.0.7",
}  # fmt: skip


def routes_of(log: AuditLog) -> list[Route]:
    """The routes of an audit log."""
    routes = Routes()

    @routes.add(
        "GET", "/audit", Role.ADMIN, "Entries, latest first",
        parameters=[
            {"name": "limit", "in": "query", "schema": {"type": "string"},
                "description": f"Page size, 1 to {PAGE_LIMIT}."},
            {"name": "before", "in": "query", "schema": {"type": "string"},
                "description": "`next` of the previous page."},
        ],
        responses={"200": {"description": "A page",
                "content": {"application/json": {"example": {"entries": [_EXAMPLE], "next": 4711}}}}},
    )  # fmt: skip
    async def read_audit(asked: AdmittedRequest) -> Response:
        """List audit entries."""
        parameters = asked.request.query_params
        only(parameters, "limit", "before")
        limit, before = (
            whole(parameters, "limit", 100, 1, PAGE_LIMIT),
            whole(parameters, "before", 0, 0, 2**62),
        )
        found = await log.entries(limit, before or None)
        return json(
            {
                "entries": [_shown(each) for each in found],
                "next": found[-1].number if len(found) == limit else None,
            }
        )

    return routes.all


def _shown(kept: StoredEntry) -> dict[str, Any]:
    return {"number": kept.number, **msgspec.structs.asdict(kept.entry), "at": moment(kept.entry.at)}
