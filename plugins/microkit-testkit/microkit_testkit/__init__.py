"""Test kit for microkit applications and plugins."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microkit.inprocess import Answer, RecordingDelivery

    from .calllog import CallLog
    from .client import TestClient
    from .clock import FakeClock, settle
    from .cookies import CookieJar
    from .exchange import ProtocolError, StreamedResponse
    from .kit import Kit
    from .messages import Delivered, Published, Settled
    from .responses import ConnectionCut, Response
    from .sockets import HandshakeRejected, WebSocketSession
    from .sync import SyncClient

# Imported at first use: pytest imports this package in every run of an environment that has it.
_MODULES = {
    "Answer": "microkit.inprocess",
    "CallLog": "microkit_testkit.calllog",
    "ConnectionCut": "microkit_testkit.responses",
    "CookieJar": "microkit_testkit.cookies",
    "Delivered": "microkit_testkit.messages",
    "FakeClock": "microkit_testkit.clock",
    "HandshakeRejected": "microkit_testkit.sockets",
    "Kit": "microkit_testkit.kit",
    "ProtocolError": "microkit_testkit.exchange",
    "Published": "microkit_testkit.messages",
    "RecordingDelivery": "microkit.inprocess",
    "Response": "microkit_testkit.responses",
    "Settled": "microkit_testkit.messages",
    "StreamedResponse": "microkit_testkit.exchange",
    "SyncClient": "microkit_testkit.sync",
    "TestClient": "microkit_testkit.client",
    "WebSocketSession": "microkit_testkit.sockets",
    "settle": "microkit_testkit.clock",
}

__all__ = [
    "Answer",
    "CallLog",
    "ConnectionCut",
    "CookieJar",
    "Delivered",
    "FakeClock",
    "HandshakeRejected",
    "Kit",
    "ProtocolError",
    "Published",
    "RecordingDelivery",
    "Response",
    "Settled",
    "StreamedResponse",
    "SyncClient",
    "TestClient",
    "WebSocketSession",
    "settle",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
