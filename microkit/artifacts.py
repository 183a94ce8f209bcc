"""Files that are generated from an application: client libraries, interface definitions, OpenAPI documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import App


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """A contributed generator of files.

    Attributes:
        name: what a user selects it by, such as `openapi`.
        description: one line about what it writes.
        generate: takes the built application and the directory to write into; returns the paths that it wrote.
    """

    name: str
    description: str
    generate: Callable[[App, Path], Iterable[Path]]
