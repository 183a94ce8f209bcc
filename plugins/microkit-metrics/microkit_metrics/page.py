"""The figures at a path of the application."""

from __future__ import annotations

from microkit import Request, Response, Route
from microkit.endpoint import Binding, Endpoint

from .metrics import Metrics


async def metrics_page(request: Request) -> Response:
    """Answer with the figures, in the format that the client asks for."""
    body, content_type = await Metrics.of(request.app).rendered(request.headers.get("accept", ""))
    return Response(body, 200, {"content-type": content_type, "cache-control": "no-store", "vary": "accept"})


def page_binding(path: str) -> Binding:
    """The binding of the page at a path."""
    return Binding(Endpoint(metrics_page), Route(path, "GET"), {"name": "microkit_metrics"}, plugin="metrics")
