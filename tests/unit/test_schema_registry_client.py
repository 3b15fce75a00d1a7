"""The client against a server that misbehaves on purpose: a fake, which gives the answers of
Confluent's documentation.

The real thing is in tests/kafka/test_schema_registry.py.
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from perdure.adapters.kafka.schema_registry.client import (
    Registry,
    RegistryAddress,
    RegistryDown,
    differences,
    registry_of,
)
from perdure.adapters.kafka.settings import checked, of_librdkafka
from perdure.errors import InfrastructureError, UsageError

SCHEMA = '{"type": "record", "name": "R", "fields": []}'
ID = (200, {"id": 7})


class FakeRegistry(ThreadingHTTPServer):
    """Returns the given responses, in order; None: the connection is cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, Any] | None] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def client(self, **fields: Any) -> Registry:
        return Registry(RegistryAddress(self.url, **fields), pause=lambda _: None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake that the client refuses is not printed."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        fake = cast("FakeRegistry", self.server)
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        fake.asked.append((self.command, self.path, dict(self.headers), body))
        answer = fake.answers.pop(0)
        if answer is None:
            return
        data = answer[1].encode() if isinstance(answer[1], str) else json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent."""


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    server = FakeRegistry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_schema_is_registered_as_the_api_says(fake: FakeRegistry) -> None:
    fake.answers = [ID]
    assert fake.client().register("shop.tasks.a b-value", SCHEMA) == 7
    ((method, path, headers, body),) = fake.asked
    assert (method, path, body) == ("POST", "/subjects/shop.tasks.a%20b-value/versions", {"schema": SCHEMA})
    assert headers["Content-Type"] == "application/vnd.schemaregistry.v1+json"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    "trouble", [None, (500, {"error_code": 50001, "message": "store"}), (503, "busy"), (429, "slowly")]
)
def test_what_may_pass_is_asked_again(fake: FakeRegistry, trouble: Any) -> None:
    fake.answers = [trouble, trouble, ID]
    assert fake.client().register("s", SCHEMA) == 7


@pytest.mark.parametrize("trouble", [None, (500, {"error_code": 50001, "message": "the store is away"})])
def test_a_registry_that_does_not_respond_is_reported_with_the_reason(
    fake: FakeRegistry, trouble: Any
) -> None:
    fake.answers = [trouble] * 4
    with pytest.raises(
        RegistryDown, match=r"does not respond: (RemoteDisconnected|.*500: the store is away)"
    ):
        fake.client().register("s", SCHEMA)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            (401, {"error_code": 401, "message": "Unauthorized"}),
            "401: Unauthorized; see schema.registry.username",
        ),
        ((403, "no"), "403: no; this user lacks the permission"),
        ((404, "<html>"), "404: <html>; is the path of schema.registry.url right"),
        (
            (422, {"error_code": 42201, "message": "Invalid Avro schema"}),
            "responded to a request to register s with 422: Invalid Avro schema",
        ),
        ((200, "<html>a login page</html>"), "with 200: <html>a login page"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_look_at(
    fake: FakeRegistry, answer: tuple[int, Any], said: str
) -> None:
    fake.answers = [answer]
    with pytest.raises(InfrastructureError) as caught:
        fake.client().register("s", SCHEMA)
    assert said in str(caught.value)
    assert not isinstance(caught.value, RegistryDown)


def test_a_conflict_on_registering_names_the_difference(fake: FakeRegistry) -> None:
    theirs = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}'
    fake.answers = [
        (409, {"message": "incompatible"}),
        (200, {"is_compatible": False}),
        (200, {"version": 3, "schema": theirs}),
    ]
    with pytest.raises(
        InfrastructureError,
        match=r"has version 3, with which this version's schema is not compatible: R\.a was removed",
    ):
        fake.client().register("s", SCHEMA)


def test_a_password_goes_with_every_question_and_into_no_message(fake: FakeRegistry) -> None:
    fake.answers = [(401, "no")]
    with pytest.raises(InfrastructureError) as caught:
        fake.client(username="shop", password="of-shop").schema_of(1)
    assert fake.asked[0][2]["Authorization"] == f"Basic {base64.b64encode(b'shop:of-shop').decode()}"
    assert "of-shop" not in str(caught.value)
    assert "of-shop" not in repr(RegistryAddress("http://x", "shop", "of-shop"))


def test_a_redirect_is_not_followed_so_that_no_password_goes_elsewhere(fake: FakeRegistry) -> None:
    fake.answers = [(302, "elsewhere")]
    with pytest.raises(InfrastructureError, match="with 302"):
        fake.client(username="u", password="p").schema_of(1)


def test_a_certificate_is_verified_against_the_authority_that_was_named(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    fake.socket = context.wrap_socket(fake.socket, server_side=True)
    fake.scheme = "https"
    fake.answers = [ID]
    assert fake.client(ca=str(certificate)).register("s", SCHEMA) == 7
    with pytest.raises(InfrastructureError, match="a certificate that is not trusted"):
        fake.client().register("s", SCHEMA)
    with pytest.raises(InfrastructureError, match="a certificate for the schema registry cannot be used"):
        fake.client(ca=str(tmp_path / "missing.pem"))


def test_differences_are_named_down_to_the_field() -> None:
    def schema(*fields: Any) -> Any:
        inner = {"type": "record", "name": "Inner", "fields": list(fields)}
        return {"type": "record", "name": "R", "fields": [{"name": "inner", "type": ["null", inner]}]}

    old = schema({"name": "a", "type": "long"}, {"name": "b", "type": "string"})
    new = schema({"name": "a", "type": "string"}, {"name": "c", "type": "long"})
    assert list(differences(old, new)) == [
        'Inner.a was "long" and is "string"',
        "Inner.b was removed",
        "Inner.c is new and has no default",
    ]
    assert list(differences(old, old)) == []


# ---- settings


def test_settings_of_the_registry_are_beside_those_of_librdkafka_and_kept_from_it() -> None:
    settings = checked(
        {
            "bootstrap.servers": "a:1",
            "schema.registry.url": "https://r:8081/x",
            "schema.registry.password": "p",
        }
    )
    assert of_librdkafka(settings) == {"bootstrap.servers": "a:1"}
    assert registry_of(settings) == RegistryAddress("https://r:8081/x", password="p")
    assert registry_of({"bootstrap.servers": "a:1"}) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schema.registry.url": "r:8081"}, "write http://host:8081"),
        ({"schema.registry.url": "http://u:p@r"}, "keep the password out of schema.registry.url"),
        ({"schema.registry.username": "u"}, "schema.registry.url is missing"),
        ({"schema.registry.uri": "http://r"}, "unknown setting schema.registry.uri"),
    ],
)
def test_settings_of_the_registry_that_are_wrong_are_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        registry_of(checked(settings))
