"""What every plugin must be, by the suite for plugin authors."""

import pytest

from microkit_testkit.conformance.plugins import PluginSuite

pytestmark = [pytest.mark.feature("FC-15"), pytest.mark.feature("FC-09")]


class TestPlugin(PluginSuite):
    plugin = "microkit_workers.plugin"
    name = "workers"
