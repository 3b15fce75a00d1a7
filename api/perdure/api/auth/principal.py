"""The authenticated caller."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from perdure.api.roles import Role

EVERY_NAMESPACE: Final = "*"


class Principal(Struct, frozen=True):
    """An authenticated caller.

    Attributes:
        name: for the audit log: `key:<id> <name>`, or `oidc:<subject>`.
        role: the caller's highest role; None: no role here.
        namespaces: the namespaces where the role applies; `*` for all.
    """

    name: str
    role: Role | None
    namespaces: tuple[str, ...]

    def is_at_home(self, namespace: str) -> bool:
        """Whether the role applies to a namespace."""
        return namespace in self.namespaces or EVERY_NAMESPACE in self.namespaces


BEARER: Final = "a token's bearer"
"""The name of a caller whose only credential is the text of a public token."""
NOBODY_ASKED: Final = Principal("dev", Role.ADMIN, (EVERY_NAMESPACE,))
"""The principal of every request to `perdure dev` on loopback."""
