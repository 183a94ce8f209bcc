"""Leases with fencing tokens, on every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from microkit_kv import (
    InvalidTTL,
    JSONStore,
    KvSettings,
    Lease,
    LeaseLost,
    MemoryStore,
    SQLiteStore,
    Store,
    StoreError,
    Unsupported,
    store_from_url,
)

pytestmark = [pytest.mark.feature("FX-15"), pytest.mark.feature("F000-40")]


class Time:
    """A clock that the store and the holders read."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, time: Time, tmp_path: Path) -> AsyncIterator[Store]:
    made = MemoryStore(clock=time) if request.param == "memory" else SQLiteStore(tmp_path / "a.db", clock=time)
    async with made:
        yield made


async def acquired(store: Store, time: Time, holder: str, ttl: float = 10) -> Lease:
    lease = await Lease.acquire(store, "work", ttl, holder, clock=time)
    assert lease is not None
    return lease


async def test_one_of_two_holds_it(store: Store, time: Time) -> None:
    lease = await acquired(store, time, "a")
    assert (lease.name, lease.holder, lease.token) == ("work", "a", 1)
    assert await Lease.acquire(store, "work", 10, "b") is None
    assert await Lease.acquire(store, "work", 10, "a") is None
    other = await Lease.acquire(store, "other work", 10, "b")
    assert other is not None


async def test_when_it_is_over_another_gets_it_with_a_higher_token(store: Store, time: Time) -> None:
    first = await acquired(store, time, "a")
    time.now += 9.9
    assert await Lease.acquire(store, "work", 10, "b") is None
    assert first.remaining == pytest.approx(0.1)
    time.now += 0.2
    assert first.remaining == 0
    second = await acquired(store, time, "b")
    assert second.token > first.token


async def test_a_holder_that_slept_too_long_hears_that_it_is_lost_and_harms_nobody(store: Store, time: Time) -> None:
    first = await acquired(store, time, "a")
    time.now += 11
    second = await acquired(store, time, "b")
    with pytest.raises(LeaseLost, match="'work' of 'a'"):
        await first.renew()
    assert await first.release() is False
    assert first.remaining == 0
    assert await Lease.acquire(store, "work", 10, "c") is None
    await second.renew()
    assert second.remaining == 10


async def test_a_lease_that_is_over_cannot_be_renewed_even_if_nobody_took_it(store: Store, time: Time) -> None:
    lease = await acquired(store, time, "a")
    time.now += 11
    with pytest.raises(LeaseLost):
        await lease.renew()


async def test_renewing_holds_it_for_longer(store: Store, time: Time) -> None:
    lease = await acquired(store, time, "a")
    for _ in range(5):
        time.now += 9
        await lease.renew()
        assert await Lease.acquire(store, "work", 10, "b") is None
    await lease.renew(100)
    time.now += 99
    assert await Lease.acquire(store, "work", 10, "b") is None
    assert lease.remaining == 1


async def test_a_released_lease_goes_to_the_next_at_once_and_tokens_go_on_growing(store: Store, time: Time) -> None:
    tokens: list[int] = []
    for holder in "abcde":
        lease = await acquired(store, time, holder)
        tokens.append(lease.token)
        assert await lease.release() is True
        assert await lease.release() is False
    time.now += 1_000_000
    tokens.append((await acquired(store, time, "f")).token)
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("scheme", ["memory", "sqlite", "redis"])
async def test_one_of_many_tasks_gets_it(scheme: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue("redis_url") if scheme == "redis" else f"{scheme}://"
    url = f"sqlite:///{tmp_path}/a.db" if scheme == "sqlite" else url
    async with store_from_url(url, KvSettings(timeout=60.0)) as store:
        for turn in range(5):
            leases: list[Lease] = []

            async def contend(holder: str, leases: list[Lease]) -> None:
                if lease := await Lease.acquire(store, "work", 600, holder):
                    leases.append(lease)

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(contend, str(number), leases)
            assert [lease.token for lease in leases] == [turn + 1]
            await leases[0].release()


async def test_what_it_leaves_in_the_store_is_one_record_per_name(store: Store, time: Time) -> None:
    for _ in range(3):
        lease = await acquired(store, time, "a")
        assert await Lease.acquire(store, "work", 10, "b") is None
        await lease.release()
    assert [key async for key in store.list()] == ["lease:work"]
    assert (await JSONStore(store).get("lease:work"))["token"] == 3


async def test_bad_times_and_foreign_records_are_refused(store: Store) -> None:
    with pytest.raises(InvalidTTL):
        await Lease.acquire(store, "work", 0, "a")
    await store.put("lease:work", b"[]")
    with pytest.raises(StoreError, match="no lease"):
        await Lease.acquire(store, "work", 10, "a")


async def test_a_store_without_compare_and_set_is_refused() -> None:
    store = MemoryStore()
    store.atomic = False
    store.compare_and_set = Store.compare_and_set.__get__(store)  # type: ignore[method-assign]
    with pytest.raises(Unsupported):
        await Lease.acquire(store, "work", 10, "a")
