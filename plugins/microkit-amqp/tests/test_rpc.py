"""Remote procedures between two of ours, on both wires."""

from __future__ import annotations

import logging

import anyio
import pytest

from microkit.broker import TargetInfo
from microkit.errors import PublicError, StatusCode
from microkit_amqp import RemoteError
from tests.rabbitmq.node import Rabbit
from tests.rabbitmq.proxy import Proxy

from .conftest import Connect, until
from .serving import TARGETS, Ours, calling

pytestmark = pytest.mark.anyio
both_wires = pytest.mark.parametrize("wire", ["nameko", pytest.param("ufw", marks=pytest.mark.feature("F002-47"))])


@both_wires
@pytest.mark.feature("F002-28")
@pytest.mark.feature("F002-48")
async def test_arguments_arrive_as_sent(url: str, connect: Connect, wire: str) -> None:
    async with Ours().on(await connect(), wire), calling(url, wire=wire, timeout=60) as rpc:
        assert await rpc("ours.hello", "Bob") == "hi Bob"
        assert await rpc("ours.hello", "Bob", greeting="hey") == "hey Bob"
        assert await rpc("ours.echo", 1, "two", [3], four={"a": None}) == [[1, "two", [3]], {"four": {"a": None}}]
        assert await rpc("ours.Deep.name") == "deep"
        assert await rpc.wire.call("ours", "hello", ["Eve"], {"greeting": "yo"}, timeout=60) == "yo Eve"


@both_wires
@pytest.mark.feature("F002-43")
async def test_a_service_tells_its_procedures(url: str, connect: Connect, wire: str) -> None:
    async with Ours().on(await connect(), wire), calling(url, wire=wire, timeout=60) as rpc:
        found = {each.name: each for each in await rpc.targets("ours")}
        assert found.keys() == TARGETS.keys()
        assert found["hello"] == TargetInfo("hello", ("name",), ("greeting",), "Greets.")
        assert (await rpc("ours.__get_target__", "hello"))["docstring"] == "Greets."


@both_wires
@pytest.mark.feature("F002-44")
async def test_what_does_not_exist_is_told_at_once(url: str, connect: Connect, wire: str) -> None:
    async with Ours().on(await connect(), wire), calling(url, wire=wire, timeout=120) as rpc:
        with anyio.fail_after(60):
            for service, target in (("nowhere", "hello"), ("ours", "nope"), ("ours", "__class__")):
                with pytest.raises(RemoteError) as caught:
                    await rpc(f"{service}.{target}")
                assert caught.value.status is StatusCode.NOT_FOUND


@both_wires
@pytest.mark.feature("F002-45")
@pytest.mark.guarantee("G9")
async def test_errors_are_typed_by_name_and_keep_secrets(url: str, connect: Connect, wire: str) -> None:
    async with Ours().on(await connect(), wire), calling(url, wire=wire, timeout=60) as rpc:
        with pytest.raises(RemoteError) as refused:
            await rpc("ours.refuses")
        assert (refused.value.status, refused.value.detail) == (StatusCode.FAILED_PRECONDITION, "Not today.")
        with pytest.raises(RemoteError) as failed:
            await rpc("ours.fails")
        assert (failed.value.type, failed.value.status) == ("ZeroDivisionError", StatusCode.INTERNAL)
        assert "secret" not in repr(failed.value.__dict__)
        with pytest.raises(RemoteError) as signature:
            await rpc("ours.hello", 1, 2, 3, 4)
        assert signature.value.status is StatusCode.INVALID_ARGUMENT
        with pytest.raises(RemoteError) as odd:
            await rpc("ours.odd")
        assert odd.value.status is StatusCode.INTERNAL


@both_wires
@pytest.mark.feature("F002-44")
async def test_no_call_waits_longer_than_its_time_out(url: str, connect: Connect, wire: str) -> None:
    ours = Ours()
    async with ours.on(await connect(), wire, slots=1), calling(url, wire=wire) as rpc:
        with anyio.fail_after(60), pytest.raises(PublicError, match=r"within 0\.2 seconds") as caught:
            await rpc.wire.call("ours", "slow", [0.6], timeout=0.2)
        assert caught.value.status is StatusCode.DEADLINE_EXCEEDED
        assert await rpc("ours.hello", "Bob") == "hi Bob"  # the late reply disturbs nobody


async def test_no_more_requests_run_at_a_time_than_there_are_slots(url: str, connect: Connect) -> None:
    ours = Ours()
    async with ours.on(await connect(), "nameko", slots=2), calling(url, timeout=60) as rpc:
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(rpc, "ours.slow", 60)
            await until(lambda: len(ours.began) == 2)
            await anyio.sleep(0.1)
            assert len(ours.began) == 2
            ours.gate.set()
        assert len(ours.began) == 6


@pytest.mark.guarantee("G8")
async def test_a_request_runs_at_most_once_unless_it_is_idempotent(
    rabbit: Rabbit, vhost: str, proxy: Proxy, url: str, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's connection is cut while both run, and others wait for a slot."""
    caplog.set_level(logging.CRITICAL, "aiormq")
    ours = Ours()
    server = await connect(rabbit.url(vhost, proxy.port), publish_timeout=60)
    async with ours.on(server, "nameko", slots=2), calling(url, timeout=60) as rpc:
        results: list[str] = []

        async def call(target: str) -> None:
            results.append(await rpc(f"ours.{target}", 60))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "slow")
            tasks.start_soon(call, "slow_again")
            await until(lambda: len(ours.began) == 2)
            tasks.start_soon(call, "slow")  # waits for a slot, not acked: it comes again
            await anyio.sleep(0.1)
            lost = server._open()[1].link._connection
            proxy.cut()
            await until(lambda: server._open()[1].link._connection is not lost)
            ours.gate.set()
        assert results == ["done"] * 3
        await until(lambda: ours.began.count("slow_again") == 2)
        await anyio.sleep(0.5)
    assert ours.began.count("slow") == 2
    assert ours.began.count("slow_again") == 2


async def test_what_waits_at_the_end_is_given_back(url: str, connect: Connect) -> None:
    first, second = Ours(), Ours()
    async with calling(url, timeout=60) as rpc, first.on(await connect(), "nameko", slots=1) as served:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(rpc, "ours.slow", 60)
            await until(lambda: first.began)
            await anyio.sleep(0.1)
            await served.cancel()
            second.gate.set()
            async with second.on(await connect(), "nameko"):
                await until(lambda: second.began)
                first.gate.set()
                await anyio.sleep(0.5)
    assert (first.began, second.began) == (["slow"], ["slow"])


async def test_a_lost_reply_queue_comes_back(rabbit: Rabbit, vhost: str, url: str, connect: Connect) -> None:
    async with Ours().on(await connect(), "nameko"), calling(url, timeout=60) as rpc:
        assert await rpc("ours.hello", "Bob") == "hi Bob"

        def names() -> list[str]:
            queues = rabbit.api("GET", f"queues/{vhost}")
            return [each["name"] for each in queues if each["name"].startswith("rpc.reply")]

        (name,) = names()
        rabbit.api("DELETE", f"queues/{vhost}/{name}")
        await until(names)
        assert await rpc("ours.hello", "Bob") == "hi Bob"


async def test_a_malformed_request_is_answered_and_stops_nothing(url: str, connect: Connect) -> None:
    async with Ours().on(await connect(), "nameko"), calling(url, timeout=60) as rpc:
        loop, _ = rpc.wire._opened()  # type: ignore[attr-defined]
        await rpc("ours.hello", "Bob")
        replies = rpc.wire._replies  # type: ignore[attr-defined]
        for body in (b"{", b"[1]", b'{"args": 1}', b'{"kwargs": [1]}'):
            with pytest.raises(RemoteError) as caught:
                await loop.run(replies.call, "ours.hello", body, {}, 60)
            assert caught.value.status is StatusCode.INVALID_ARGUMENT
        assert await rpc("ours.hello", "Bob") == "hi Bob"
