"""What every plugin must be, by the suite for plugin authors."""

from typing import ClassVar

import pytest

from microkit_testkit.conformance.plugins import PluginSuite

pytestmark = [pytest.mark.feature("FC-15"), pytest.mark.feature("FC-09")]


class TestPlugin(PluginSuite):
    plugin = "microkit_metrics.plugin"
    name = "metrics"


class TestCountingPlugin(TestPlugin):
    settings: ClassVar = {"metrics": {"path": "/metrics", "port": 0}}
