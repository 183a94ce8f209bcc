"""What the log says of the queues of a service."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkit import App, Event

from .conftest import serving, until

pytestmark = pytest.mark.anyio


def _orders(path: Path) -> App:
    settings = {"broker": f"sqlite:///{path}", "queue_interval": 0.1}
    app = App(name="shop", settings={"workers": settings})

    @app.on(Event("web", "order"))
    async def ship(payload: int) -> None:
        raise AssertionError("what is no number does not come here")

    return app


@pytest.mark.feature("FX-26")
async def test_old_dead_letters_are_told_apart_from_new_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def told() -> list[str]:
        return [each.message.partition(";")[0] for each in caplog.records if each.message.startswith("dead letters")]

    path, queue = tmp_path / "broker.db", "web.order__shop.ship"
    async with serving(_orders(path)) as service:
        await service.publish("web", "order", "one")
        await service.dead_one(queue)
    caplog.clear()
    async with serving(_orders(path)) as service:
        await until(told)
        await service.publish("web", "order", "two")
        await until(lambda: len(told()) == 2)
    assert told() == [f"dead letters of {queue}: 1", f"dead letters of {queue}: 2, 1 more than before"]
