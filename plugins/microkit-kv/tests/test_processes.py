"""Several processes work on one store at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from microkit_kv import MAX_TTL, KvSettings, SQLiteStore, store_from_url

_CONTENDER = Path(__file__).with_name("contender.py")


def start(what: str, url: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(_CONTENDER), what, url, str(count)], stdout=subprocess.PIPE, text=True)


def outputs(what: str, url: str, count: int, processes: int) -> list[list[str]]:
    """What so many processes print, line by line; all must end well."""
    running = [start(what, url, count) for _ in range(processes)]
    printed = [process.communicate(timeout=120)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0] * processes
    return printed


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return f"sqlite:///{tmp_path}/store.db"


@pytest.mark.feature("F000-33")
async def test_no_increment_of_many_processes_is_lost(url: str) -> None:
    outputs("increment", url, 40, processes=4)
    async with store_from_url(url, KvSettings(timeout=60.0)) as store:
        assert await store.get("count") == b"160"


@pytest.mark.feature("FX-15")
@pytest.mark.feature("F000-40")
async def test_a_lease_is_held_by_one_process_at_a_time_and_tokens_grow(url: str) -> None:
    lines = [line.split(" ", 1) for printed in outputs("lead", url, 10, processes=3) for line in printed]
    assert {what for _, what in lines} == {"alone"}
    tokens = sorted(int(token) for token, _ in lines)
    assert len(set(tokens)) == 30
    assert tokens == list(range(1, 31))


@pytest.mark.guarantee("G8")
async def test_a_process_that_is_killed_loses_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = start("forever", f"sqlite:///{path}", 0)
    with process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(50)]
        process.kill()
        printed += process.stdout.readlines()
    written = int([line for line in printed if line.endswith("\n")][-1])
    async with SQLiteStore(path, timeout=30.0) as store:
        # The last line may have been cut short or not printed.
        assert int(await store.get("last") or -1) in (written, written + 1)
        listed = [key async for key in store.list("n")]
        assert listed[: written + 1] == [f"n{number:06}" for number in range(written + 1)]
        await store.put("a", b"1", ttl=MAX_TTL)
        assert await store.get("a") == b"1"
