"""What a plugin offers to tests of applications: drivers of the test client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """A contributed driver of the test client, for a kind of call that the client does not know itself.

    Attributes:
        name: attribute of the client on which the driver appears.
        factory: takes the client (its `app`, `clock` and `publisher` are there) and returns the driver. Its methods may
            be coroutine functions; a synchronous client runs them on the event loop and waits.
    """

    name: str
    factory: Callable[[Any], Any]
