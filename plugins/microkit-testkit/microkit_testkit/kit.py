"""Applications for the tests of plugins."""

from __future__ import annotations

from typing import Any

from microkit import App


class Kit:
    """Makes applications from plugin objects, without entry points: exactly the given plugins are there."""

    def app(self, *plugins: Any, **options: Any) -> App:
        """An application with exactly these plugins.

        Args:
            plugins: modules, objects or import paths.
            options: of `App`.
        """
        return App(plugins=plugins, discover=False, **options)
