"""A schema registry, by the HTTP API of Confluent's, which Apicurio, Karapace and Redpanda speak,
too.

It is asked by `perdure topics apply`, and by an engine when it starts; never while records are
written. https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from perdure.adapters.kafka.settings import REGISTRY
from perdure.errors import InfrastructureError, UsageError

ANSWER_S: Final = 10.0
TRIES: Final = 4
FIRST_PAUSE_S: Final = 0.2
"""Doubled from try to try."""
_CONTENT: Final = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND, _CONFLICT, _TOO_MANY = 404, 409, 429


class RegistryDown(InfrastructureError):
    """It does not answer: that may pass."""


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Address and credentials of a schema registry.

    Attributes:
        url: `http://host:8081`, or `https://…`; a path is kept (`/apis/ccompat/v7` of Apicurio).
        username: for basic authentication; empty: none.
        password: for that.
        ca: file of the authorities that its certificate may be from; empty: those of the machine.
        certificate: file of our own certificate, with its key unless `key` names that.
        key: file.
    """

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""


def registry_of(settings: Mapping[str, Any]) -> RegistryAddress | None:
    """The registry that settings name (`schema.registry.url` and others); None: none, records are
    not framed.

    Raises:
        UsageError: the address is not understood.
    """
    given = {REGISTRY[name]: str(value) for name, value in settings.items() if name in REGISTRY}
    if not given.get("url"):
        if given:
            raise UsageError("schema.registry.url is missing: the other registry settings require it")
        return None
    parts = urlsplit(given["url"])
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"invalid schema.registry.url {given['url']!r}; write http://host:8081")
    if parts.username or parts.password:
        raise UsageError(
            "keep the password out of schema.registry.url: set schema.registry.username and "
            "schema.registry.password"
        )
    return RegistryAddress(**given)


class Registry:
    """A client, for one thread.

    Args:
        address: of the registry.
        tries: the number of tries of a request without an answer.
        pause: waits some seconds between tries.

    Raises:
        InfrastructureError: a certificate cannot be used.
    """

    def __init__(
        self, address: RegistryAddress, *, tries: int = TRIES, pause: Callable[[float], object] = time.sleep
    ) -> None:
        parts = urlsplit(address.url)
        self.url = address.url.rstrip("/")
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path.rstrip("/")
        self._tls = _tls(address) if parts.scheme == "https" else None
        self._tries = tries
        self._pause = pause
        self._headers = {"Content-Type": _CONTENT, "Accept": f"{_CONTENT}, application/json"}
        if address.username:
            secret = base64.b64encode(f"{address.username}:{address.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"

    def register(self, subject: str, schema: str) -> int:
        """The id of the schema, which is registered when it is not yet.

        Raises:
            InfrastructureError: it is refused; the message says what differs.
        """
        status, answer = self._ask("POST", f"/subjects/{quote(subject, '')}/versions", {"schema": schema})
        if status == _CONFLICT:
            raise InfrastructureError(
                self.fault_of(subject, schema) or self._words(status, answer, f"to register {subject}")
            )
        return int(self._checked(status, answer, f"to register {subject}")["id"])

    def fault_of(self, subject: str, schema: str) -> str:
        """Why the registry would reject the schema, with the differences from its version; empty:
        it would accept it.
        """
        path = f"/compatibility/subjects/{quote(subject, '')}/versions/latest?verbose=true"
        status, answer = self._ask("POST", path, {"schema": schema})
        if status == _NOT_FOUND:  # the first of its subject
            return ""
        answer = self._checked(status, answer, f"whether {subject} is compatible")
        if answer.get("is_compatible", False):
            return ""
        latest = self._latest(subject)
        news = "; ".join(differences(json.loads(latest["schema"]), json.loads(schema))) or "; ".join(
            map(str, answer.get("messages", ()))
        )
        return (
            f"{subject}: the registry at {self.url} has version {latest.get('version')}, with which this "
            f"version's schema is not compatible: {news}. "
            "Another system has registered it, or its subject has stricter rules than those of "
            "docs/internals/schemas.md"
        )

    def schema_of(self, schema_id: int) -> str | None:
        """The schema that has the id; None: there is none."""
        status, answer = self._ask("GET", f"/schemas/ids/{schema_id}")
        return (
            None
            if status == _NOT_FOUND
            else str(self._checked(status, answer, f"for schema {schema_id}")["schema"])
        )

    def _latest(self, subject: str) -> dict[str, Any]:
        status, answer = self._ask("GET", f"/subjects/{quote(subject, '')}/versions/latest")
        return self._checked(status, answer, f"for {subject}")

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, Any]:
        """Status and answer; again while it does not answer, or says that it cannot just now."""
        trouble = ""
        for index in range(self._tries):
            if index:
                self._pause(FIRST_PAUSE_S * 2 ** (index - 1))
            try:
                status, answer = self._asked_once(
                    method, path, json.dumps(body) if body is not None else None
                )
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise InfrastructureError(
                        f"the registry at {self.url} has a certificate that is not trusted: {error}"
                    ) from None
                trouble = f"{type(error).__name__}: {error}"
            else:
                if status < 500 and status != _TOO_MANY:
                    return status, answer
                trouble = self._words(status, answer, "just now")
        raise RegistryDown(f"the schema registry at {self.url} does not respond: {trouble}")

    def _asked_once(self, method: str, path: str, body: str | None) -> tuple[int, Any]:
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=ANSWER_S, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_S)
        )
        try:
            connection.request(method, self._path + path, body, self._headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(data)
        except ValueError:
            return response.status, data[:200].decode(errors="replace")

    def _checked(self, status: int, answer: Any, what: str) -> dict[str, Any]:
        if status >= 300 or not isinstance(answer, dict):
            raise InfrastructureError(self._words(status, answer, what))
        return cast("dict[str, Any]", answer)

    def _words(self, status: int, answer: Any, what: str) -> str:
        said = cast("dict[str, Any]", answer).get("message", answer) if isinstance(answer, dict) else answer
        hint = {
            401: "; see schema.registry.username and schema.registry.password",
            403: "; this user lacks the permission",
        }.get(status, "")
        hint = hint or ("; is the path of schema.registry.url right?" if status == _NOT_FOUND else "")
        return f"the schema registry at {self.url} responded to a request {what} with {status}: {said}{hint}"


def differences(old: Any, new: Any) -> Iterator[str]:
    """Differences of two schemas, as text: records, fields, their types and defaults."""
    before, after = dict(_records(old)), dict(_records(new))
    for name in after.keys() | before.keys():
        if name not in before or name not in after:
            yield f"{name} is {'new' if name in after else 'gone'}"
    for name in sorted(before.keys() & after.keys()):
        there, here = before[name], after[name]
        for each in sorted(there.keys() | here.keys()):
            if each not in here:
                yield f"{name}.{each} was removed"
            elif each not in there:
                yield f"{name}.{each} is new" + ("" if "default" in here[each] else " and has no default")
            elif (was := _shown(there[each])) != (now := _shown(here[each])):
                yield f"{name}.{each} was {was} and is {now}"


def _records(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    match schema:
        case {"type": "record", "name": name, "fields": [*fields]}:
            yield str(name), {each["name"]: each for each in fields}
            for each in fields:
                yield from _records(each["type"])
        case {"type": "enum", "name": name, "symbols": [*symbols]}:
            yield str(name), {str(each): {"type": "symbol", "default": ""} for each in symbols}
        case {"type": "array", "items": items}:
            yield from _records(items)
        case {"type": inner}:
            yield from _records(inner)
        case [*branches]:
            for branch in branches:
                yield from _records(branch)
        case _:
            return


def _shown(entry: dict[str, Any]) -> str:
    return json.dumps(_named_only(entry["type"]))


def _named_only(schema: Any) -> Any:
    match schema:
        case {"type": "record" | "enum", "name": name}:
            return str(name).rpartition(".")[2]
        case {"type": "array", "items": items}:
            return {"array": _named_only(items)}
        case {"type": inner}:
            return _named_only(inner)
        case [*branches]:
            return [_named_only(branch) for branch in branches]
        case _:
            return str(schema).rpartition(".")[2]


def _tls(address: RegistryAddress) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca or None)
        if address.certificate:
            context.load_cert_chain(address.certificate, address.key or None)
    except OSError as error:
        raise InfrastructureError(f"a certificate for the schema registry cannot be used: {error}") from None
    return context
