"""The endpoint page: what `microkit explain` prints, as HTML or JSON at a path of the application."""

from __future__ import annotations

from dataclasses import asdict
from html import escape

from microkit.endpoint import Binding, Endpoint
from microkit.http import HTMLResponse, JsonResponse, Request, Response
from microkit.inspect import AppInfo, inspect_app
from microkit.triggers import Route

from .output import shown, tables


async def endpoint_page(request: Request) -> Response:
    """Answer with JSON on `?format=json` or `Accept: application/json`, else HTML."""
    info = inspect_app(request.app).public()
    headers = {"vary": "accept", "cache-control": "no-store"}
    if request.query.get("format") == "json" or "application/json" in request.headers.get("accept", ""):
        return JsonResponse(asdict(info), headers=headers)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return HTMLResponse(as_html(info), headers={**headers, "content-security-policy": policy})


def page_binding(path: str) -> Binding:
    """The binding of the endpoint page at a path."""
    return Binding(Endpoint(endpoint_page), Route(path, "GET"), {"name": "microkit_endpoints"}, plugin="kernel")


def as_html(info: AppInfo) -> str:
    """An application as an HTML page; everything is escaped."""
    parts: list[str] = []
    for section in tables(info):
        columns = list(dict.fromkeys(key for row in section.rows for key in row))
        head = "".join(f"<th>{escape(name)}" for name in columns)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(shown(r.get(c)))}' for c in columns)}" for r in section.rows)
        parts.append(f"<h2>{escape(section.title)}</h2><table><tr>{head}{rows}</table>" if rows else "")
    name = escape(info.name)
    style = "body{font-family:sans-serif}td,th{text-align:left;padding:.2em .8em;border-bottom:1px solid #ccc}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{style}</style>'
        f"<h1>{name}</h1>{''.join(parts)}</html>"
    )
