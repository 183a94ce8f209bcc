"""Options of the embedded brokers, as the query of their URL gives them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from microkit.broker import OutgoingMessage
from microkit.errors import PublicError, StartupError, StatusCode, nearest


@dataclass(frozen=True)
class MemoryOptions:
    """Options of `memory://name?option=value`.

    Attributes:
        max_length: messages that one queue holds (waiting, delayed and unsettled ones); more are refused with
            RESOURCE_EXHAUSTED. Copies for retries are not refused: they take the place of a message.
        max_message_size: bytes of a body; a larger one is refused with RESOURCE_EXHAUSTED.
        max_dead: dead letters that one queue keeps; the oldest makes room for the newest. 0: no bound.
        delivery_limit: how often a message may come back unanswered; the next time it becomes a dead letter.
    """

    max_length: int = 100_000
    max_message_size: int = 16 * 1024 * 1024
    max_dead: int = 10_000
    delivery_limit: int = 20

    def __post_init__(self) -> None:
        for name in ("max_length", "max_message_size"):
            _require(getattr(self, name) > 0, name, "is a positive number")
        for name in ("max_dead", "delivery_limit"):
            _require(getattr(self, name) >= 0, name, "is not negative")

    def check_size(self, message: OutgoingMessage) -> None:
        """Refuse a body that is too large.

        Raises:
            PublicError: RESOURCE_EXHAUSTED.
        """
        if len(message.body) > self.max_message_size:
            raise PublicError(
                f"The message has {len(message.body)} bytes; at most {self.max_message_size} are allowed.",
                status=StatusCode.RESOURCE_EXHAUSTED,
            )


@dataclass(frozen=True)
class SqliteOptions(MemoryOptions):
    """Options of `sqlite:///path?option=value`; beside those of `memory://`:

    Attributes:
        max_length: as there, with a higher default.
        max_dead: as there, but by default without a bound: a durable broker drops nothing.
        synchronous: `full`: what was confirmed survives a loss of power (each commit waits for the disk). `normal`:
            it survives the end of the process in any way, `kill -9` included, but a loss of power or a crash of the
            system may take the last commits back; the file stays whole. Faster by the time of an fsync per commit.
        lease: seconds after which the messages of a process that gives no sign of life come again.
        poll: seconds at most until a message of another process is seen. One of the same process is seen at once.
        busy_timeout: seconds to wait for another process that writes.
        max_size: bytes that the file may grow to; 0: as far as the disk goes.
    """

    max_length: int = 1_000_000
    max_dead: int = 0
    synchronous: str = "full"
    lease: float = 15.0
    poll: float = 0.05
    busy_timeout: float = 5.0
    max_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.synchronous in ("full", "normal"), "synchronous", "is full or normal")
        for name in ("lease", "poll", "busy_timeout"):
            value = getattr(self, name)
            _require(value > 0 and math.isfinite(value), name, "is a positive number of seconds")
        _require(self.max_size >= 0, "max_size", "is not negative")


T = TypeVar("T", bound=MemoryOptions)


def parse(url: str, kind: type[T]) -> tuple[str, str, T]:
    """Take a broker's URL apart.

    Args:
        url: such as `sqlite:///jobs.db?lease=30`.
        kind: the options that there are.

    Returns:
        Host, path and options.

    Raises:
        StartupError: an option is unknown or its value is of the wrong type.
    """
    parts = urlsplit(url)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in fields:
            raise StartupError(
                f"The broker {parts.scheme}:// has no option {name!r}.{nearest(name, fields)} There are: "
                f"{', '.join(sorted(fields))}. Correct the URL."
            )
        cast = type(fields[name].default)
        try:
            values[name] = cast(text)
        except ValueError:
            raise StartupError(
                f"The option {name} of the broker {parts.scheme}:// is a {cast.__name__}, not {text!r}. "
                f"Correct the URL."
            ) from None
    return unquote(parts.netloc), unquote(parts.path), kind(**values)


def _require(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise StartupError(f"The broker's option {name} {rule}. Correct its URL.")
