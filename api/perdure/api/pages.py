"""Pages for people with a browser: an index, and a list of all routes. They use no scripts and load
nothing from other hosts.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from perdure.adapters.http.contract import BASE
from perdure.api.routing import json

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

DOCUMENT: Final = "/openapi.json"
PAGE: Final = "/docs"
LOOKS: Final = ["GET", "HEAD"]
"""Methods of public pages: health checks without a body use HEAD. `/openapi.json` accepts both
already."""
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}
_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
article { border-top: 1px solid #8884; padding: .5rem 0 }
h2 { font-size: 1rem; margin: .5rem 0 }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .1rem 1rem; margin: .3rem 0 }
dd { margin: 0 } p { margin: .2rem 0 } small { opacity: .75 }
"""


def add_pages(app: FastAPI, namespace: str, document: Callable[[], dict[str, Any]]) -> None:
    """The index of the API, and its documentation.

    Args:
        app: gets the routes; they are public, like the OpenAPI document.
        namespace: for the index.
        document: the OpenAPI document.
    """

    async def index() -> Response:
        """Index of the API, with links to its parts."""
        places = {
            "openapi": DOCUMENT,
            "docs": PAGE,
            "workflows": f"{BASE}/workflows",
            "ready": "/health/ready",
        }
        return json({"name": "perdure", "namespace": namespace, "version": app.version, **places})

    async def docs() -> Response:
        """All routes, for people."""
        return Response(page_of(document()), headers=_HEADERS, media_type="text/html")

    for path in (BASE, f"{BASE}/"):
        app.add_api_route(path, index, methods=LOOKS, include_in_schema=False)
    app.add_api_route(PAGE, docs, methods=LOOKS, include_in_schema=False)


def page_of(document: dict[str, Any]) -> str:
    """An OpenAPI document as a page of HTML."""
    operations = [
        _operation(method, path, operations[method])
        for path, operations in document["paths"].items()
        for method in _METHODS
        if method in operations
    ]
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    intro = f'<p>Machine-readable: <a href="{DOCUMENT}">{DOCUMENT}</a>.</p>'
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return (
        "<!doctype html><html "
        f'lang="en"><head>{head}</head><body><h1>{title}</h1>{intro}{"".join(operations)}</body></html>'
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code> {escape(operation.get('summary', ''))}</h2>",
        (
            f"<p>{escape(operation.get('description', ''))} <small>role: "
            f"{escape(operation.get('x-perdure-role', '-'))}</small></p>"
        ),
    ]
    if parameters := operation.get("parameters", []):
        rows = (_row(f"{each['name']} ({each['in']})", each.get("description", "")) for each in parameters)
        parts.append(f"<dl>{''.join(rows)}</dl>")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        properties = content.get("schema", {}).get("properties", {})
        rows = (
            _row(f"{name} (body)", each.get("description", each.get("type", "")))
            for name, each in properties.items()
        )
        parts.append(f"<dl>{''.join(rows)}</dl>")
    rows = (
        _row(status, each.get("description", "")) for status, each in operation.get("responses", {}).items()
    )
    parts.append(f"<dl>{''.join(rows)}</dl>")
    return f"<article>{''.join(parts)}</article>"


def _row(name: str, text: str) -> str:
    return f"<dt><code>{escape(str(name))}</code></dt><dd>{escape(text)}</dd>"
