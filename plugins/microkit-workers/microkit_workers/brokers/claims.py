"""Who gets which messages of `sqlite://`."""

from __future__ import annotations

from collections import deque

from .operations import Claimed, Consumer, Group
from .store import Store
from .stored import Stored

_MOST = 500
"""Messages of one queue that are claimed in one transaction."""


def claim(store: Store, group: Group, generation: int) -> tuple[list[Claimed], bool, float | None]:
    """Mark messages as delivered to consumers of one queue, in turns.

    A message that came back again and again is suspected of killing its consumers: it is delivered alone, so that what
    was delivered beside it is not counted as returned once more with it.

    Returns:
        What was claimed; whether there may be more; when the next message is due.
    """
    consumers = group.candidates()
    if not consumers or not _leads(store, consumers[0]):
        return [], False, None
    wanted = min(_MOST, sum(each.room for each in consumers))
    found = store.waiting(group.queue, wanted)
    given = _share(found, consumers, max(1, store.options.delivery_limit // 2))
    store.hold(number for number, _, consumer in given if not consumer.no_ack)
    store.take(number for number, _, consumer in given if consumer.no_ack)
    claimed = [Claimed(consumer, number, store.session, generation, stored) for number, stored, consumer in given]
    if len(given) < len(found):  # a suspicious one waits until something else is answered, which is told
        return claimed, False, None
    if len(found) == wanted:
        return claimed, True, None
    return claimed, False, store.next_due(group.queue)


def _leads(store: Store, consumer: Consumer) -> bool:
    return not consumer.spec.single_active or store.activate(consumer.spec.name, consumer.number)


def _share(
    found: list[tuple[int, Stored]], consumers: list[Consumer], suspicious: int
) -> list[tuple[int, Stored, Consumer]]:
    given: list[tuple[int, Stored, Consumer]] = []
    room = {consumer.number: consumer.room for consumer in consumers}
    busy = {consumer.number for consumer in consumers if consumer.held}
    turns = deque(consumers)
    for number, stored in found:
        alone = stored.returns >= suspicious
        consumer = next((each for each in turns if room[each.number] and not (alone and each.number in busy)), None)
        if consumer is None:
            break  # what is behind waits, too: the order is kept
        turns.remove(consumer)
        turns.append(consumer)
        busy.add(consumer.number)
        room[consumer.number] = 0 if alone else room[consumer.number] - 1
        given.append((number, stored, consumer))
    return given


def take_over(group: Group, claimed: list[Claimed], suspicious: int) -> None:
    """Count what was claimed, once that is committed."""
    for each in claimed:
        consumer = each.consumer
        if consumer.no_ack:
            continue
        consumer.free -= 1
        consumer.held += 1
        if each.stored.returns >= suspicious:
            consumer.alone = each.id
    if claimed and not claimed[0].consumer.spec.single_active:
        group.consumers.rotate(-1)
