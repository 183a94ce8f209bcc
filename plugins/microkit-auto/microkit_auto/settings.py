"""Settings of the plugin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AutoSettings:
    """Settings of microkit-auto: `MICROKIT_AUTO__<KEY>` and `[tool.microkit.auto]`.

    Attributes:
        ignore_surplus_segments: path segments that no parameter takes are ignored; otherwise the path does not exist.
        session_values: parameters are filled from the session too, after every other source.
    """

    ignore_surplus_segments: bool = False
    session_values: bool = False
