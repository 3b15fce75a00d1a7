"""The web app beside the platform: found by its name, refused in one line."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from perdure.cli.lifecycle.web import WebServer
from perdure.errors import UsageError


async def asgi(scope: object, receive: object, send: object) -> None: ...


def module(**attributes: object) -> ModuleType:
    made = ModuleType("app")
    made.__dict__.update(attributes)
    return made


def test_an_app_without_a_web_app_needs_no_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert WebServer.of(module(), "127.0.0.1", 0) is None
    assert WebServer.of(module(web=ModuleType("web")), "127.0.0.1", 0) is None, (
        "a submodule that is called web is not a web app"
    )


def test_without_uvicorn_a_web_app_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match="pip install uvicorn"):
        WebServer.of(module(web=asgi), "127.0.0.1", 0)


def test_what_is_not_an_application_is_refused() -> None:
    with pytest.raises(UsageError, match=r"app\.web is int"):
        WebServer.of(module(web=3), "127.0.0.1", 0)


def test_a_free_port_is_chosen_and_the_address_shown() -> None:
    server = WebServer.of(module(web=asgi), "127.0.0.1", 0)
    assert server
    assert server.url.startswith("http://127.0.0.1:")
    assert not server.url.endswith(":0")
    server.join()
