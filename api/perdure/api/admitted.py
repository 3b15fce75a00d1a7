"""An admitted request, as a handler gets it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from perdure.api.auth.principal import Principal
from perdure.api.auth.refusals import AccessRefused, CannotAuthenticate, Forbidden
from perdure.api.json_views import outline
from perdure.api.parameters import list_query
from perdure.api.problems import problem
from perdure.api.roles import Role
from perdure.errors import PayloadError, ValueUnavailable

if TYPE_CHECKING:
    from perdure.api.backend import Backend
    from perdure.client.listing import ListQuery
    from perdure.model.states import WorkflowState


@dataclass(slots=True)
class AdmittedRequest:
    """A request whose caller was authenticated and authorised.

    Attributes:
        request: Starlette's request.
        backend: the backend of the API.
        principal: the caller.
        admit: authorises the caller again, or raises.
        target: for the audit log: the workflow, or another subject of the request.
        detail: for the audit log: further arguments.
        request_id: for the audit log: the command's request id, which the history has, too.
    """

    request: Request
    backend: Backend
    principal: Principal
    admit: Callable[[], Awaitable[Principal]]
    target: str = ""
    detail: str = ""
    request_id: str = ""

    @property
    def has_payloads(self) -> bool:
        """Whether the caller may see payloads."""
        return _sees_payloads(self.principal)

    def shown(self, found: WorkflowState) -> WorkflowState:
        """The part of a state that the caller's role may see."""
        return found if self.has_payloads else outline(found)

    async def encoded(self, data: bytes) -> bytes:
        """The payload of JSON that the caller has sent.

        Raises:
            Problem: it cannot be encoded or stored now, or is too large.
        """
        try:
            return await self.backend.encoded(data, "a value of the request")
        except ValueUnavailable as error:
            raise problem("unavailable", str(error)) from None
        except PayloadError as error:
            raise problem("limit-exceeded", str(error)) from None

    def query(self, *, is_paged: bool = True) -> ListQuery:
        """The list query of the request.

        Raises:
            Problem: a parameter is invalid.
            Forbidden: it filters by data that the caller may not see.
        """
        found = list_query(self.request.query_params, is_paged=is_paged)
        if (found.attributes or found.where) and not self.has_payloads:
            who = self.principal.name
            raise Forbidden(
                f"filtering by attribute requires the role reader, but {who} is viewer",
                who=who,
                held="viewer",
                wanted="reader",
            )
        return found

    def about(self, target: str, detail: str = "") -> None:
        """Complete the audit record of the request."""
        self.target, self.detail = target, detail

    async def is_still_admitted(self) -> bool:
        """Whether the caller would still be admitted: keys are revoked, and tokens expire, while a
        stream runs.
        """
        try:
            principal = await self.admit()
        except CannotAuthenticate:
            return True
        except AccessRefused:
            return False
        return _sees_payloads(principal) == self.has_payloads


def _sees_payloads(principal: Principal) -> bool:
    return principal.role is not None and principal.role >= Role.READER
