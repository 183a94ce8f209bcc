"""Sessions: the protocol of their stores, and the one in memory. Cookies and policies come from microkit-sessions."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class SessionBackend(ABC):
    """A store of sessions. Subclass it and pass it as `App(session_backend=...)`."""

    @abstractmethod
    async def load(self, session_id: str) -> dict[str, Any]:
        """The data of a session; empty if there is none or it is over."""

    @abstractmethod
    async def save(self, session_id: str, data: dict[str, Any], timeout: int) -> None:
        """Keep the data of a session; empty data deletes it.

        Args:
            timeout: seconds after which it is over, unless it is saved again.
        """


class InMemorySessionBackend(SessionBackend):
    """Sessions in this process; gone when it ends.

    Args:
        max_sessions: beyond so many, the one that ends first is dropped.
        clock: seconds; only differences count.
    """

    def __init__(self, max_sessions: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions: dict[str, tuple[float, dict[str, Any]]] = {}
        self._max = max_sessions
        self._clock = clock

    async def load(self, session_id: str) -> dict[str, Any]:
        expires, data = self._sessions.get(session_id, (0.0, {}))
        if expires <= self._clock():
            self._sessions.pop(session_id, None)
            return {}
        return copy.deepcopy(data)  # a handler's changes count only once they are saved

    async def save(self, session_id: str, data: dict[str, Any], timeout: int) -> None:
        if not data:
            self._sessions.pop(session_id, None)
            return
        now = self._clock()
        if session_id not in self._sessions and len(self._sessions) >= self._max:
            self._sessions = {key: each for key, each in self._sessions.items() if each[0] > now}
            if len(self._sessions) >= self._max:
                del self._sessions[min(self._sessions, key=lambda key: self._sessions[key][0])]
        self._sessions[session_id] = (now + timeout, copy.deepcopy(data))


@dataclass(frozen=True)
class SessionBackendSpec:
    """A contributed kind of session store.

    Attributes:
        scheme: what a URL in the settings selects it by, such as `memory` or `redis`.
        factory: makes it from the URL.
    """

    scheme: str
    factory: Callable[[str], SessionBackend]


MEMORY = SessionBackendSpec("memory", lambda url: InMemorySessionBackend())
