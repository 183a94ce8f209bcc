"""Cases about queues: routing, order, sharing, ownership."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from microkit import PublicError, StartupError
from microkit.broker import OutgoingMessage, QueueSpec, QueueState, Unroutable

from .harness import Harness, Inbox, bodies, eventually, text


class QueueCases(Harness):
    """Who gets which messages."""

    @pytest.mark.anyio
    async def test_a_message_arrives_as_it_was_published(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            sent = OutgoingMessage(
                b"\x00\xff", "application/x", {"text": "ä", "number": 7}, "id-1", "correlation", "replies"
            )
            await broker.publish(queue.source, queue.event, sent)
            (message,) = await inbox.take_and_ack()
            assert (message.body, message.content_type) == (sent.body, sent.content_type)
            assert (message.source, message.name, message.queue) == (queue.source, queue.event, queue.name)
            assert (message.message_id, message.correlation_id, message.reply_to) == ("id-1", "correlation", "replies")
            assert {name: message.headers[name] for name in ("text", "number")} == {"text": "ä", "number": 7}
            assert message.attempt == 1

    @pytest.mark.anyio
    async def test_a_message_without_an_id_gets_one_of_its_own(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            for _ in range(2):
                await broker.publish(queue.source, queue.event, text("x"))
            first, second = await inbox.take_and_ack(2)
            assert first.message_id
            assert first.message_id != second.message_id

    @pytest.mark.anyio
    async def test_messages_come_in_the_order_in_which_they_were_published(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            for number in range(30):
                await broker.publish(queue.source, queue.event, text(number))
            assert bodies(await inbox.take_and_ack(30)) == [str(number) for number in range(30)]

    @pytest.mark.anyio
    async def test_messages_wait_for_their_consumer(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            await (await Inbox().on(broker, queue)).cancel()
            for number in range(3):
                await broker.publish(queue.source, queue.event, text(number))
            inbox = await Inbox().on(broker, queue)
            assert bodies(await inbox.take_and_ack(3)) == ["0", "1", "2"]

    @pytest.mark.anyio
    async def test_an_event_goes_to_every_bound_queue_and_to_no_other(self) -> None:
        first = self.queue()
        second = QueueSpec(self.fresh(), first.source, first.event)
        other = QueueSpec(self.fresh(), first.source, "something else")
        async with self.broker() as broker:
            inboxes = [await Inbox().on(broker, each) for each in (first, second, other)]
            await broker.publish(first.source, first.event, text("x"))
            await broker.publish(first.source, "nobody listens", text("y"))
            assert [bodies(await inbox.take_and_ack()) for inbox in inboxes[:2]] == [["x"], ["x"]]
            await inboxes[2].quiet()

    @pytest.mark.anyio
    async def test_consumers_of_one_queue_share_its_messages(self) -> None:
        queue = self.queue()
        async with self.brokers() as (one, two):
            inboxes = [await Inbox(2).on(broker, queue) for broker in (one, one, two)]
            async with anyio.create_task_group() as tasks:
                for inbox in inboxes:
                    tasks.start_soon(inbox.ack_as_they_come)
                for number in range(60):
                    await one.publish(queue.source, queue.event, text(number))
                await eventually(lambda: sum(len(inbox.bodies) for inbox in inboxes) >= 60)
                await anyio.sleep(0.1)
                tasks.cancel_scope.cancel()
            got = sorted(int(body) for inbox in inboxes for body in inbox.bodies)
            assert got == list(range(60))

    @pytest.mark.anyio
    async def test_consumers_of_one_connection_take_turns(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            first, second = [await Inbox(20).on(broker, queue) for _ in range(2)]
            for number in range(20):
                await broker.publish(queue.source, queue.event, text(number))
            await eventually(lambda: len(first.bodies) + len(second.bodies) == 20)
            assert min(len(first.bodies), len(second.bodies)) >= 5

    @pytest.mark.anyio
    @pytest.mark.parametrize("prefetch", [1, 3])
    async def test_no_more_than_prefetch_are_unsettled(self, prefetch: int) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox(prefetch).on(broker, queue)
            for number in range(12):
                await broker.publish(queue.source, queue.event, text(number))
            await eventually(lambda: len(inbox.bodies) >= prefetch)
            await anyio.sleep(0.2)
            assert len(inbox.bodies) == prefetch
            await inbox.take_and_ack(12)
            assert inbox.most == prefetch

    @pytest.mark.anyio
    async def test_nothing_comes_after_a_cancel_and_what_came_can_be_answered(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            await broker.publish(queue.source, queue.event, text("before"))
            _, delivery = await inbox.take()
            await inbox.cancel()
            await inbox.cancel()
            await broker.publish(queue.source, queue.event, text("after"))
            await inbox.quiet()
            await delivery.ack()
            await self.reconnect(broker)
            assert bodies(await (await Inbox().on(broker, queue)).take_and_ack()) == ["after"]

    @pytest.mark.anyio
    async def test_many_tasks_publish_at_once_and_nothing_is_lost(self) -> None:
        queue = self.queue()
        async with self.brokers() as (one, two):
            inbox = await Inbox(50).on(one, queue)

            async def publish(number: int) -> None:
                await (one, two)[number % 2].publish(queue.source, queue.event, text(number))

            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(publish, number)
            got = [int(body) for body in bodies(await inbox.take_and_ack(200))]
            assert sorted(got) == list(range(200))

    @pytest.mark.anyio
    async def test_a_cancelled_consumer_loses_nothing(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            await (await Inbox().on(broker, queue)).cancel()
            for number in range(40):
                await broker.publish(queue.source, queue.event, text(number))
            got: set[str] = set()
            for moment in range(20):
                inbox = Inbox(5)
                with anyio.move_on_after(0.0005 * moment):
                    await inbox.on(broker, queue)
                    while True:
                        message, delivery = await inbox.take()
                        with anyio.CancelScope(shield=True):
                            await delivery.ack()
                        got.add(message.body.decode())
                if inbox.subscription is not None:
                    await inbox.cancel()
            await self.reconnect(broker)
            inbox = await Inbox().on(broker, queue)
            with anyio.fail_after(60):
                while len(got) < 40:
                    got.update(bodies(await inbox.take_and_ack()))

    # -- names that are not there --------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_sending_to_an_unknown_queue_fails_at_once(self) -> None:
        self.need("unroutable")
        async with self.broker() as broker:
            with anyio.fail_after(60), pytest.raises(Unroutable):
                await broker.send(self.fresh("unknown"), text("x"))
            assert await broker.state(self.fresh("unknown")) == QueueState()

    @pytest.mark.anyio
    async def test_a_message_is_sent_to_one_queue_by_its_name(self) -> None:
        queue, other = QueueSpec(self.fresh()), QueueSpec(self.fresh())
        async with self.brokers() as (one, two):
            inbox, quiet = await Inbox().on(one, queue), await Inbox().on(one, other)
            await two.send(queue.name, text("x"))
            assert bodies(await inbox.take_and_ack()) == ["x"]
            await quiet.quiet()

    @pytest.mark.anyio
    async def test_a_closed_broker_refuses_clearly(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            await broker.close()
            await broker.close()
            for action in (
                partial(broker.publish, queue.source, queue.event, text("x")),
                partial(broker.send, queue.name, text("x")),
                partial(inbox.on, broker, queue),
            ):
                with anyio.fail_after(60), pytest.raises((PublicError, StartupError)):
                    await action()
            await broker.connect()
            await broker.connect()

    # -- owned queues --------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_an_exclusive_queue_goes_with_its_subscription(self) -> None:
        self.need("exclusive", "unroutable")
        queue = self.queue(exclusive=True)
        async with self.brokers() as (one, two):
            inbox = await Inbox().on(one, queue)
            await two.send(queue.name, text("x"))
            await two.publish(queue.source, queue.event, text("y"))
            assert bodies(await inbox.take_and_ack(2)) == ["x", "y"]
            await inbox.cancel()
            with pytest.raises(Unroutable):
                await two.send(queue.name, text("z"))

    @pytest.mark.anyio
    async def test_an_exclusive_queue_goes_with_its_connection_and_says_so(self) -> None:
        self.need("exclusive", "unroutable")
        queue = self.queue(exclusive=True)
        async with self.brokers() as (one, two):
            inbox = await Inbox().on(one, queue)
            assert inbox.subscription is not None
            lost: list[int] = []
            inbox.subscription.on_lost(lambda: lost.append(1))
            await one.close()
            assert lost
            with pytest.raises(Unroutable):
                await two.send(queue.name, text("z"))
            await one.connect()

    @pytest.mark.anyio
    async def test_a_broadcast_reaches_every_exclusive_queue(self) -> None:
        self.need("exclusive")
        first = self.queue(exclusive=True)
        second = QueueSpec(self.fresh(), first.source, first.event, exclusive=True)
        async with self.brokers() as (one, two):
            inboxes = [await Inbox().on(one, first), await Inbox().on(two, second)]
            await one.publish(first.source, first.event, text("x"))
            assert [bodies(await each.take_and_ack()) for each in inboxes] == [["x"], ["x"]]

    @pytest.mark.anyio
    async def test_an_exclusive_queue_is_nobody_elses(self) -> None:
        self.need("exclusive")
        queue = self.queue(exclusive=True)
        async with self.brokers() as (one, two):
            await Inbox().on(one, queue)
            with pytest.raises(StartupError, match=queue.name.replace(".", r"\.")):
                await Inbox().on(two, queue)

    @pytest.mark.anyio
    async def test_only_one_of_several_consumers_is_active_and_the_next_takes_over(self) -> None:
        self.need("single active")
        queue = self.queue(single_active=True)
        async with self.brokers() as (one, two):
            first, second = await Inbox().on(one, queue), await Inbox().on(two, queue)
            for number in range(6):
                await two.publish(queue.source, queue.event, text(number))
            assert bodies(await first.take_and_ack(6)) == [str(number) for number in range(6)]
            assert second.bodies == []
            await first.cancel()
            await one.publish(queue.source, queue.event, text("next"))
            assert bodies(await second.take_and_ack()) == ["next"]

    @pytest.mark.anyio
    async def test_the_next_one_is_active_after_the_connection_of_the_first_is_closed(self) -> None:
        self.need("single active")
        queue = self.queue(single_active=True)
        async with self.brokers() as (one, two):
            first, second = await Inbox().on(one, queue), await Inbox().on(two, queue)
            await two.publish(queue.source, queue.event, text("x"))
            await first.take()
            await one.close()
            assert bodies(await second.take_and_ack()) == ["x"]
            await one.connect()

    @pytest.mark.anyio
    async def test_a_queue_with_other_properties_is_refused_by_name(self) -> None:
        self.need("single active")
        queue = self.queue()
        async with self.broker() as broker:
            await Inbox().on(broker, queue)
            with pytest.raises(StartupError, match=queue.name.replace(".", r"\.")):
                await Inbox().on(broker, QueueSpec(queue.name, queue.source, queue.event, single_active=True))

    @pytest.mark.anyio
    async def test_the_state_of_a_queue_is_counted(self) -> None:
        self.need("state", "delay", "dead letters")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox(2).on(broker, queue)
            for number in range(5):
                await broker.publish(queue.source, queue.event, text(number))
            await broker.send(queue.name, OutgoingMessage(b"later", delay=60))
            _, delivery = await inbox.take()
            await delivery.store_dead("hopeless")
            await delivery.ack()

            async def counted() -> bool:
                return await broker.state(queue.name) == QueueState(ready=2, unsettled=2, delayed=1, dead=1)

            await eventually(counted)
