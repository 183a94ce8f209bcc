"""Explicit routes keep their rules beside a site."""

from __future__ import annotations

import pytest

from microkit import App
from microkit.routing.matching import LINEAR
from microkit_auto import Root
from microkit_testkit.conformance.routers import RouterSuite


class Beside(Root):
    async def zebra(self, *stripes: str) -> None:
        """A handler that none of the suite's paths means."""


@pytest.mark.guarantee("G3")
class TestExplicitRoutesBesideASite(RouterSuite):
    """The suite's own router, in applications that have a site too."""

    spec = LINEAR
    max_examples = 1  # of the linear router itself there are enough elsewhere

    def app(self) -> App:
        app = App(plugins=["microkit_auto.plugin"], discover=False)
        app.include(Beside())
        return app
