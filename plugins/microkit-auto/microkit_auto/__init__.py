"""Auto-mapping router for microkit: the methods of a class are the pages of a site."""

from microkit import (
    ConnectionClosed,
    FileResponse,
    HTMLResponse,
    HttpMiddleware,
    InMemorySessionBackend,
    JsonResponse,
    RedirectResponse,
    Response,
    SessionBackend,
    StreamingResponse,
    TextResponse,
    WebSocket,
    WebSocketMiddleware,
)

from .exposure import handler
from .request import Request, WebSocketRequest
from .reroute import reroute, reroute_to_app
from .settings import AutoSettings
from .site import App, Root
from .sources import FromSession, InvalidInput

__all__ = [
    "App",
    "AutoSettings",
    "ConnectionClosed",
    "FileResponse",
    "FromSession",
    "HTMLResponse",
    "HttpMiddleware",
    "InMemorySessionBackend",
    "InvalidInput",
    "JsonResponse",
    "RedirectResponse",
    "Request",
    "Response",
    "Root",
    "SessionBackend",
    "StreamingResponse",
    "TextResponse",
    "WebSocket",
    "WebSocketMiddleware",
    "WebSocketRequest",
    "handler",
    "reroute",
    "reroute_to_app",
]
