"""The store in Redis: lost and hung servers, foreign keys, what is imported when."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trustme

from microkit_kv import RedisStore, StoreClosed, StoreError, StoreUnavailable, Unsupported
from tests.servers import Server, free_ports, private_server


def command(port: int, folder: Path, *more: str) -> list[str]:
    return ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", *more]


@pytest.fixture
def own_server(needs_redis: None, tmp_path: Path) -> Iterator[Server]:
    """A server that a test may harm."""
    with private_server(command, tmp_path) as server:
        yield server


async def ask(url: str, *words: bytes | int) -> Any:
    """Send one command past the store."""
    async with RedisStore(url, timeout=60.0) as store:
        return await store._run(*words)  # type: ignore[arg-type]


async def test_a_lost_server_is_an_error_and_the_next_call_connects_again(needs_redis: None, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = start_on(port, tmp_path)
    try:
        async with RedisStore(f"redis://127.0.0.1:{port}", timeout=30.0) as store:
            await store.put("a", b"1")
            process.kill()
            process.wait()
            for _ in range(20):
                with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port} cannot be reached"):
                    await store.put("a", b"2")
            process = start_on(port, tmp_path)
            await store.put("a", b"3")
            assert await store.get("a") == b"3"
    finally:
        process.kill()
        process.wait()


def start_on(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A server on a port that a client knows already."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        process = subprocess.Popen(command(port, folder), stdout=subprocess.DEVNULL)
        while process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
                return process
            except OSError:
                time.sleep(0.05)
        # Another process may have had the port for a moment.
        process.kill()
        process.wait()
    raise AssertionError("the server did not start")


async def test_a_hung_server_is_an_error_in_time_and_no_answer_goes_to_another_call(own_server: Server) -> None:
    async with RedisStore(f"redis://127.0.0.1:{own_server.port}", timeout=30.0) as store:
        await store.put("a", b"1")
        await store.put("b", b"2")
        assert store._connection is not None
        assert store._connection._stream_timeout == 30.0
        store._connection._stream_timeout = 0.3  # of this connection only: what comes before and after may be slow
        own_server.process.send_signal(signal.SIGSTOP)
        try:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    for _ in range(10):
                        tasks.start_soon(unavailable, store)
        finally:
            own_server.process.send_signal(signal.SIGCONT)
        await anyio.sleep(0.1)
        assert [await store.get(key) for key in ("b", "a", "b")] == [b"2", b"1", b"2"]


async def unavailable(store: RedisStore) -> None:
    with pytest.raises(StoreUnavailable):
        await store.get("a")


async def test_opening_fails_where_nothing_listens() -> None:
    with socket.socket() as taken:  # so that nobody else comes to listen there
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        store = RedisStore(f"redis://user:hunter2@127.0.0.1:{port}", timeout=30.0)
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                await store.open()
            assert f"Redis at 127.0.0.1:{port} cannot be reached" in str(caught.value)
            assert "hunter2" not in str(caught.value)
        with pytest.raises(StoreClosed):
            await store.get("a")


async def test_passwords_are_percent_encoded_and_wrong_ones_are_told(needs_redis: None, tmp_path: Path) -> None:
    with private_server(lambda port, folder: command(port, folder, "--requirepass", "p@ss/w:rd"), tmp_path) as server:
        async with RedisStore(f"redis://:p%40ss%2Fw%3Ard@127.0.0.1:{server.port}/1", timeout=60.0) as store:
            await store.put("a", b"1")
            assert await store.get("a") == b"1"
        for password in (":wrong@", ""):
            with pytest.raises(StoreError):
                await RedisStore(f"redis://{password}127.0.0.1:{server.port}", timeout=60.0).open()


async def test_calls_that_are_cancelled_harm_no_others(redis_url: str) -> None:
    async with RedisStore(redis_url, timeout=60.0) as store:
        for number in range(50):
            await store.put(str(number), str(number).encode())
        for number in range(50):
            async with anyio.create_task_group() as tasks:
                with anyio.move_on_after(number * 0.00002):
                    await store.get("0")
                tasks.start_soon(store.get, "1")
            assert await store.get(str(number)) == str(number).encode()


async def test_calls_that_are_cancelled_while_they_connect_leave_a_working_store(redis_url: str) -> None:
    async with RedisStore(redis_url, timeout=60.0) as store:
        for number in range(60):
            if store._connection is not None:
                store._connection.invalidate()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.has, "a")
                tasks.start_soon(store.has, "a")
                for _ in range(number % 12):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        with anyio.fail_after(60):
            assert await store.has("a") is False


async def test_calls_at_a_time_share_one_connection(redis_url: str) -> None:
    async with RedisStore(redis_url, timeout=60.0) as store:
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(store.put, str(number), b"x")
        listed = (await store._run(b"CLIENT LIST")).decode().splitlines()
    number = redis_url.rpartition("/")[2]
    assert len([line for line in listed if f" db={number} " in line]) == 1


async def test_keys_of_others_are_neither_listed_nor_in_the_way(redis_url: str) -> None:
    await ask(redis_url, b"HSET", b"hash", b"field", b"1")
    await ask(redis_url, b"SET", b"\xff\xfe", b"1")
    await ask(redis_url, b"SET", b"k" * 600, b"1")
    async with RedisStore(redis_url, timeout=60.0) as store:
        await store.put("a", b"1")
        assert [key async for key in store.list()] == ["a"]
        with pytest.raises(StoreError, match="refused GET"):
            await store.get("hash")
        assert await store.get("a") == b"1"


async def test_a_listing_keeps_little_in_memory_and_loses_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page is what a walk over the whole database leaves of it, with the rest dropped on the way."""
    monkeypatch.setattr("microkit_kv.redis._PAGE", 50)
    monkeypatch.setattr("microkit_kv.redis._STEP", 20)
    keys = [f"{number:04}" for number in range(1000)]
    async with RedisStore(redis_url, timeout=60.0) as store:
        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(store.put, key, b"")
        assert [key async for key in store.list()] == keys
        assert (await store.list_page("09")).keys == keys[900:950]
        assert (await store.list_page("09", "0949")).cursor is None


async def test_it_is_reached_over_tls(needs_redis: None, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))

    def tls(port: int, folder: Path) -> list[str]:
        files = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.pem", "--tls-ca-cert-file", "ca.pem")
        return command(0, folder, "--tls-port", str(port), *files, "--tls-auth-clients", "no")

    with private_server(tls, tmp_path) as server:
        url = f"rediss://127.0.0.1:{server.port}"
        async with RedisStore(f"{url}?ssl_ca_certs={tmp_path}/ca.pem", timeout=60.0) as store:
            await store.put("a", b"1")
            assert await store.get("a") == b"1"
        with pytest.raises(StoreUnavailable):  # by an authority that nobody knows
            await RedisStore(url, timeout=60.0).open()


async def test_the_server_itself_ends_what_is_over(redis_url: str) -> None:
    async with RedisStore(redis_url, timeout=60.0) as store:
        await store.put("a", b"1", ttl=90.5)
        assert await store._run(b"PTTL", b"a") in range(80_000, 90_501)
        await store.put("a", b"1", ttl=0.0001)
        await anyio.sleep(0.05)
        assert await store._run(b"EXISTS", b"a") == 0


async def test_a_missing_library_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coredis.pool", None)
    with pytest.raises(Unsupported, match=r"Install `microkit-kv\[redis\]`"):
        await RedisStore("redis://127.0.0.1").open()


@pytest.mark.parametrize("module", ["coredis", "sqlite3"])
def test_libraries_are_imported_when_a_store_is_opened(module: str) -> None:
    code = f"import sys, microkit_kv.plugin; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
