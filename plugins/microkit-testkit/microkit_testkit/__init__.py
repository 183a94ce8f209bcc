"""Test kit for microkit applications and plugins."""

from microkit.inprocess import Answer, RecordingDelivery

from .client import CallLog, TestClient
from .clock import FakeClock, settle
from .cookies import CookieJar
from .exchange import ProtocolError, StreamedResponse
from .messages import Delivered, Published, Settled
from .responses import ConnectionCut, Response
from .sockets import HandshakeRejected, WebSocketSession
from .sync import SyncClient

__all__ = [
    "Answer",
    "CallLog",
    "ConnectionCut",
    "CookieJar",
    "Delivered",
    "FakeClock",
    "HandshakeRejected",
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
