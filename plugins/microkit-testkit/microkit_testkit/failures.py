"""The exceptions behind generic error replies. They leave the kernel by its log only, so they are read there."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_LOGGERS = ("microkit.error", "microkit.asgi")
_captured: ContextVar[list[BaseException] | None] = ContextVar("microkit_testkit_failures", default=None)


class _Capture(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        captured = _captured.get()
        if captured is not None and record.exc_info and record.exc_info[1] is not None:
            captured.append(record.exc_info[1])


_handler = _Capture(logging.ERROR)


@contextmanager
def capture_failures() -> Generator[list[BaseException]]:
    """The unhandled exceptions of the calls that run inside the block, and in tasks started there, in order."""
    captured: list[BaseException] = []
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(_handler)  # adding it twice adds it once
    token = _captured.set(captured)
    try:
        yield captured
    finally:
        _captured.reset(token)
