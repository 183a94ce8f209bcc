"""Settings of microkit-metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PREFIX = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Settings of microkit-metrics: `MICROKIT_METRICS__<KEY>` and `[tool.microkit.metrics]`.

    Attributes:
        enabled: count, also without a page; `path` and `port` imply it.
        path: serve the figures at this path of the application; None: not there.
        port: serve them at `/metrics` on a port of its own, 0 takes a free one; None: not there. Of several worker
            processes each takes its own port: this one plus its number.
        host: name or address for `port`; an empty one is every interface.
        prefix: begins the name of every metric of the framework, such as `microkit_`.
        buckets: upper bounds of the durations' histogram, in seconds, ascending.
        process_figures: also give the memory, CPU time, garbage collection and versions of the process.
        loop_interval: seconds between two looks at how late the event loop is; 0: none.
    """

    enabled: bool = False
    path: str | None = None
    port: int | None = None
    host: str = "127.0.0.1"
    prefix: str = ""
    buckets: tuple[float, ...] = BUCKETS
    process_figures: bool = True
    loop_interval: float = 1.0

    def __post_init__(self) -> None:
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError("path must begin with a slash")
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ValueError("port must be between 0 and 65535")
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            raise ValueError("prefix must be letters, digits and underscores, without a digit at its beginning")
        rising = all(low < high for low, high in zip((0.0, *self.buckets), self.buckets, strict=False))
        if not self.buckets or not rising or self.buckets[-1] == float("inf"):
            raise ValueError("buckets must be finite seconds over 0, each higher than the one before")
        if not 0 <= self.loop_interval < float("inf"):
            raise ValueError("loop_interval must be 0 or more seconds")

    @property
    def active(self) -> bool:
        """Whether anything is counted."""
        return self.enabled or self.path is not None or self.port is not None
