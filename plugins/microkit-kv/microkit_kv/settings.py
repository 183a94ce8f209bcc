"""Settings of microkit-kv."""

from __future__ import annotations

from dataclasses import dataclass

from .limits import MAX_VALUE_BYTES


@dataclass(frozen=True, slots=True)
class KvSettings:
    """Settings of microkit-kv: `MICROKIT_KV__<KEY>` and `[tool.microkit.kv]`.

    Attributes:
        url: the store that is injected as `Store`: `memory://`, `sqlite:///relative/path`, `sqlite:////absolute/path`,
            `redis://[user:password@]host[:port][/database]`, `rediss://...`, or a scheme of another plugin.
        max_value: bytes that a value may have.
        timeout: seconds to wait for a server, or for other processes that write to a file.
    """

    url: str = "sqlite:///microkit.db"
    max_value: int = MAX_VALUE_BYTES
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if self.max_value < 1:
            raise ValueError("max_value must be at least 1")
        if not 0 < self.timeout < float("inf"):
            raise ValueError("timeout must be above 0 seconds, and finite")
