"""Which acks go together: only a part without a gap, and never one over a message that was given back."""

from __future__ import annotations

import random

import pytest

from microkit_amqp.acks import AckWindow, Answer


@pytest.mark.guarantee("G8")
def test_only_a_part_without_a_gap_is_acked_together() -> None:
    window = AckWindow()
    for tag in (1, 2, 3, 5):
        window.ack(tag)
    assert len(window) == 4
    assert window.take() == [Answer(3, multiple=True), Answer(5)]
    window.ack(4)
    window.ack(6)
    assert window.take() == [Answer(6, multiple=True)]
    assert window.take() == []


@pytest.mark.guarantee("G8")
def test_what_is_given_back_is_sent_first_and_closes_the_gap() -> None:
    window = AckWindow()
    window.ack(1)
    window.give_back(2)
    window.ack(3)
    assert window.take() == [Answer(2, requeue=True), Answer(3, multiple=True)]


@pytest.mark.guarantee("G8")
@pytest.mark.parametrize("seed", range(30))
def test_every_message_gets_exactly_its_own_answer(seed: int) -> None:
    """A model of the broker: what is outstanding, and what an answer does to it."""
    chance = random.Random(seed)
    window = AckWindow()
    outstanding: dict[int, str] = {}  # tag to what was decided
    answered: dict[int, str] = {}
    tag = 0
    while tag < 300 or outstanding:
        if tag < 300 and chance.random() < 0.5:
            tag += 1
            outstanding[tag] = ""
        open_tags = [each for each, decided in outstanding.items() if not decided]
        if open_tags and chance.random() < 0.7:
            chosen = chance.choice(open_tags)
            outstanding[chosen] = chance.choice(["ack", "ack", "ack", "return"])
            (window.ack if outstanding[chosen] == "ack" else window.give_back)(chosen)
        if chance.random() < 0.2:
            for answer in window.take():
                assert answer.tag in outstanding, "an unknown delivery tag closes the channel"
                tags = [each for each in outstanding if each <= answer.tag] if answer.multiple else [answer.tag]
                for each in tags:
                    answered[each] = "return" if answer.requeue else "ack"
                    assert outstanding.pop(each) == answered[each]
    assert len(answered) == 300
