"""Settings of microkit-cron."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CronSettings:
    """Settings of microkit-cron: `MICROKIT_CRON__<KEY>` and `[tool.microkit.cron]`.

    Attributes:
        cluster: fire each schedule once for all processes and machines that share the application's `Store`.
        namespace: what schedules in the store belong to; empty: the name of the application.
        lease: seconds after which the firing of a process that died may be run by another. It is renewed three times as
            often while a handler runs.
        catch_up: seconds that a misfire policy looks back when the application was down.
        clock_skew: seconds that the clocks of machines may be apart.
    """

    cluster: bool = False
    namespace: str = ""
    lease: float = 30.0
    catch_up: float = 86400.0
    clock_skew: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.lease < float("inf"):
            raise ValueError("lease must be above 0 seconds, and finite")
        for name in ("catch_up", "clock_skew"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more seconds")
