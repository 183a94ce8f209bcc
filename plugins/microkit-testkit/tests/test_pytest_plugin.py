"""What the testkit brings into a run of pytest."""

from __future__ import annotations

import pytest

from microkit import App, Every, hookimpl
from microkit.testing import DriverSpec
from microkit_testkit import FakeClock
from microkit_testkit.kit import Kit

pytest_plugins = ["pytester"]

TEST = """
    from microkit import App

    async def test_hello(kit, client_for, anyio_backend_name):
        app = kit.app()

        @app.get("/")
        async def root() -> str:
            return anyio_backend_name

        client = await client_for(app)
        assert (await client.get("/")).text == anyio_backend_name
        assert app.runtime.running
"""


@pytest.mark.guarantee("G12")
def test_async_tests_run_on_every_backend(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("--anyio-mode=auto", "-v", "-W", "error")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_hello?asyncio?*", "*test_hello?trio?*"])


def test_a_fixture_of_the_project_decides_on_the_backends(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "trio"
        """
    )
    pytester.makepyfile(TEST)
    pytester.runpytest_subprocess("--anyio-mode=auto", "-W", "error").assert_outcomes(passed=1)


def test_loading_it_imports_nothing_of_microkit(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            assert "microkit" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=1)


def test_the_kit_makes_apps_of_exactly_the_given_plugins(kit: Kit) -> None:
    class Plugin:
        @hookimpl
        def microkit_test_drivers(self) -> DriverSpec:
            return DriverSpec("mine", lambda client: client)

    records = kit.app(Plugin()).plugins.records
    assert [each.origin for each in records] == ["kernel", "explicit"]


@pytest.mark.feature("FX-28")
async def test_the_fake_clock_is_the_clock_of_the_app(fake_clock: FakeClock, client_for) -> None:  # type: ignore[no-untyped-def]
    app = App(discover=False, clock=fake_clock)
    ran: list[int] = []

    @app.on(Every(60))
    async def poll() -> None:
        ran.append(1)

    client = await client_for(app)
    assert client.clock is fake_clock
    await fake_clock.advance(120)
    assert ran == [1, 1]


@pytest.mark.feature("FX-28")
async def test_drivers_of_plugins_are_attributes_of_the_client(kit: Kit, client_for) -> None:  # type: ignore[no-untyped-def]
    class Plugin:
        @hookimpl
        def microkit_test_drivers(self) -> DriverSpec:
            return DriverSpec("mine", lambda client: (client.app, client.clock.now()))

    app = kit.app(Plugin())
    client = await client_for(app)
    assert client.mine == (app, client.clock.now())
    with pytest.raises(AttributeError, match=r"'yours'.*mine"):
        _ = client.yours


def test_every_public_name_is_there() -> None:
    import microkit_testkit

    assert set(microkit_testkit.__all__) <= set(dir(microkit_testkit))
    assert all(getattr(microkit_testkit, name).__name__ == name for name in microkit_testkit.__all__)
