"""What every plugin must be, by the suite for plugin authors."""

import subprocess
import sys

import pytest

from microkit_testkit.conformance.plugins import PluginSuite


@pytest.mark.feature("FC-15")
@pytest.mark.feature("FC-09")
class TestPlugin(PluginSuite):
    plugin = "microkit_amqp.plugin"
    name = "amqp"


def test_aio_pika_is_imported_when_a_connection_is_opened() -> None:
    code = (
        "import sys, microkit_amqp, microkit_amqp.plugin; "
        "print({'aio_pika', 'aiormq', 'pamqp', 'asyncio'} & set(sys.modules) - {'asyncio'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr
