"""Settings of the servers."""

from __future__ import annotations

import pytest

from microkit import App, SettingsError
from microkit_serve import ServeSettings, UvicornServer, plugin


def _settings(**given: object) -> ServeSettings:
    app = App(plugins=[plugin], discover=False, settings={"serve": given})
    app.build()
    return app.all_settings["serve"]


def test_the_defaults_are_local() -> None:
    settings = _settings()
    assert (settings.host, settings.port, settings.access_log) == ("127.0.0.1", 8000, False)
    assert settings.scheme == "http"


@pytest.mark.parametrize(
    "given",
    [{"port": 70000}, {"certfile": "a.pem"}, {"keep_alive": 0.0}, {"websocket_ping": -1.0}],
    ids=lambda given: next(iter(given)),
)
def test_impossible_settings_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(given))):
        _settings(**given)


def test_a_server_s_own_arguments_are_settings() -> None:
    with pytest.raises(TypeError, match="prot"):
        UvicornServer(prot=1)
