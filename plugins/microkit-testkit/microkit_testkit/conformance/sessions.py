"""The rules that every store of sessions keeps; subclass `SessionBackendSuite` to hold yours to them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from microkit import SessionBackend

from .suite import ConformanceSuite


class SessionBackendSuite(ConformanceSuite):
    """What a store of sessions must do. Override `backend`, and `wait` if time can be faked."""

    def backend(self) -> AbstractAsyncContextManager[SessionBackend]:
        """An empty store."""
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Let so many seconds pass for the store."""
        await anyio.sleep(seconds)

    @pytest.mark.anyio
    async def test_an_unknown_session_is_empty(self) -> None:
        async with self.backend() as backend:
            assert await backend.load("nobody") == {}

    @pytest.mark.anyio
    async def test_what_is_saved_is_loaded_by_its_id_only(self) -> None:
        data = {"text": "ä", "number": 1, "list": [None, True, {"deep": 1.5}]}
        async with self.backend() as backend:
            await backend.save("one", data, 60)
            assert await backend.load("one") == data
            assert await backend.load("two") == {}

    @pytest.mark.anyio
    async def test_saving_replaces_everything(self) -> None:
        async with self.backend() as backend:
            await backend.save("one", {"a": 1, "b": 2}, 60)
            await backend.save("one", {"a": 3}, 60)
            assert await backend.load("one") == {"a": 3}

    @pytest.mark.anyio
    async def test_saving_nothing_deletes_the_session(self) -> None:
        async with self.backend() as backend:
            await backend.save("one", {"a": 1}, 60)
            await backend.save("one", {}, 60)
            await backend.save("never", {}, 60)
            assert await backend.load("one") == {}

    @pytest.mark.anyio
    async def test_changes_count_only_once_they_are_saved(self) -> None:
        async with self.backend() as backend:
            given = {"list": [1]}
            await backend.save("one", given, 60)
            given["list"].append(2)
            loaded = await backend.load("one")
            loaded["list"].append(3)
            assert await backend.load("one") == {"list": [1]}

    @pytest.mark.anyio
    async def test_a_session_is_over_after_its_time_and_saving_prolongs_it(self) -> None:
        async with self.backend() as backend:
            await backend.save("short", {"a": 1}, 1)
            await backend.save("long", {"a": 1}, 1)
            await backend.save("long", {"a": 2}, 60)
            await self.wait(1.1)
            assert await backend.load("short") == {}
            assert await backend.load("long") == {"a": 2}

    @pytest.mark.anyio
    async def test_sessions_are_saved_at_the_same_time(self) -> None:
        async with self.backend() as backend:
            async with anyio.create_task_group() as tasks:
                for i in range(20):
                    tasks.start_soon(backend.save, f"session {i}", {"i": i}, 60)
            assert [(await backend.load(f"session {i}"))["i"] for i in range(20)] == list(range(20))
