"""Who asks."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from perdure.api.roles import Role

EVERY_NAMESPACE: Final = "*"


class Principal(Struct, frozen=True):
    """Somebody who has shown who they are.

    Attributes:
        name: for the audit log: `key:<id> <name>`, or `oidc:<subject>`.
        role: the highest that they have; None: they have none here.
        namespaces: where; `*` is everywhere.
    """

    name: str
    role: Role | None
    namespaces: tuple[str, ...]

    def is_at_home(self, namespace: str) -> bool:
        """Whether the role holds in a namespace."""
        return namespace in self.namespaces or EVERY_NAMESPACE in self.namespaces


NOBODY_ASKED: Final = Principal("dev", Role.ADMIN, (EVERY_NAMESPACE,))
"""Whoever reaches a `perdure dev` on loopback."""
