"""Templates: what a plugin that renders them provides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Templates(Protocol):
    """Renders templates by name. A plugin brings it as an app-scoped provider of this key."""

    async def render(self, name: str, values: Mapping[str, Any]) -> str:
        """The text of a template.

        Args:
            name: of the template; never input of a client.
            values: its variables.

        Raises:
            LookupError: there is no such template.
        """
        ...
