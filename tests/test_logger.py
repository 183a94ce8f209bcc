"""Logging: one level for an application, and nothing in the log that its callers sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from microkit import App, Request, logger

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """The level of the kernel's logger is the process's; put it back."""
    root = logging.getLogger("microkit")
    before = root.level
    yield
    root.setLevel(before)


@pytest.mark.feature("F000-58")
@pytest.mark.parametrize(("level", "seen"), [("WARNING", ["loud"]), ("debug", ["quiet", "loud"])])
def test_the_level_of_the_app_governs_loggers(level: str, seen: list[str], caplog: pytest.LogCaptureFixture) -> None:
    log = logger("shop.orders")
    assert isinstance(log, logging.Logger)
    assert log.name == "microkit.shop.orders"
    App(discover=False, settings={"app": {"log_level": level}}).build()
    log.debug("quiet")
    log.warning("loud")
    assert [record.message for record in caplog.records if record.name == log.name] == seen


@pytest.mark.feature("F000-58")
async def test_bodies_and_secrets_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass
    class Login:
        user: str
        password: str

    app = App(discover=False, settings={"app": {"log_level": "DEBUG"}})

    @app.post("/login")
    async def login(body: Login) -> str:
        raise RuntimeError("the database is away")

    headers = {"content-type": "application/json", "authorization": "Bearer header-secret"}
    async with app.started():
        for body in (
            b'{"user": "a", "password": "body-secret"}',
            b'{"user": 1, "password": ["body-secret"]}',
            b"{body-secret",
        ):
            reply = await app.handle(Request("POST", "/login?token=query-secret", headers, body))
            assert reply.http_status >= 400
    assert "the database is away" in caplog.text
    assert "secret" not in caplog.text
