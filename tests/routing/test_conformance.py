"""The kernel's linear router keeps the rules of routers."""

from __future__ import annotations

import pytest

from microkit.routing.matching import LINEAR
from microkit_testkit.conformance.routers import RouterSuite


@pytest.mark.guarantee("G3")
@pytest.mark.feature("F001-10")
class TestLinear(RouterSuite):
    spec = LINEAR
