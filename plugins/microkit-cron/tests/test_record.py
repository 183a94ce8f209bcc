"""What a cluster knows of a schedule, as a value."""

from __future__ import annotations

import pytest

from microkit_cron.record import ATTEMPTS, CLAIMS, GIVEN_BACK, Entry, Record
from microkit_kv import StoreError

pytestmark = pytest.mark.feature("FX-15")

SKEW = 60.0


def claim(record: Record, due: float, owner: str = "a", *, now: float | None = None, queue: bool = False) -> Record:
    """Claim a firing that must be free."""
    after = record.claim(Entry(due, owner), due if now is None else now, SKEW, keep=True, replace_waiting=queue)
    assert after is not None
    return after


def refused(record: Record, due: float, now: float) -> bool:
    return record.claim(Entry(due, "b"), now, SKEW, keep=True, replace_waiting=False) is None


def test_it_survives_being_stored() -> None:
    record = claim(claim(Record((0.1,)), 60.0), 120.3)
    assert Record.parse(record.dump()) == record
    for data in (b"", b"{}", b"[[1], [[1, 2, 3, 4, 5, 6]]]", b"[1, 2, 3]"):
        with pytest.raises(StoreError):
            Record.parse(data)


def test_a_due_time_is_claimed_once_and_none_before_it_any_more() -> None:
    record = claim(claim(Record((0.0,)), 60.0), 180.0)
    assert refused(record, 60.0, now=200.0)
    assert refused(record, 120.0, now=200.0)
    assert refused(record, 180.0, now=100.0)  # also by a clock that is late by more than it may
    assert not refused(record, 240.0, now=240.0)


def test_a_clock_that_is_far_ahead_does_not_keep_others_from_firing() -> None:
    record = claim(Record((0.0,)), 60.0)
    record = claim(record, 1_000_000.0, "ahead")
    assert refused(record, 60.0, now=61.0)
    record = claim(record, 120.0)
    assert refused(record, 120.0, now=121.0)
    assert refused(record, 1_000_000.0, now=1_000_000.0)


def test_it_stays_small() -> None:
    record = Record((0.0,))
    for number in range(1, 1000):
        record = claim(record, number * 60.0).done(number * 60.0, "a")
    assert len(record.claims) == CLAIMS
    assert record.open == ()


def test_a_firing_that_lost_its_process_is_run_again_but_not_for_ever() -> None:
    record, attempts = claim(Record((0.0,)), 60.0), list[int]()
    while record.open:
        record, taken, over = record.take("b", "once")
        attempts += [each.attempt for each in taken]
    assert attempts == list(range(1, ATTEMPTS + 1))
    assert [each.due for each in over] == [60.0]


@pytest.mark.parametrize(
    ("misfire", "taken"),
    [("once", [(180.0, 1, 2)]), ("skip", [(180.0, 1, 1)]), ("all", [(60.0, 2, 0), (120.0, 1, 0), (180.0, 1, 0)])],
)
def test_what_is_made_up_for(misfire: str, taken: list[tuple[float, int, int]]) -> None:
    record = claim(claim(claim(Record((0.0,)), 60.0).take("dead", misfire)[0], 120.0), 180.0)
    _, found, _ = record.take("b", misfire)
    assert [(each.due, each.attempt, each.missed) for each in found] == taken


def test_what_is_given_back_may_be_taken_and_counts_no_attempt() -> None:
    record = claim(Record((0.0,)), 60.0).take("a", "once")[0].give_back(60.0, "a")
    assert [each.owner for each in record.open] == [GIVEN_BACK]
    record, taken, _ = record.take("b", "once")
    assert [(each.owner, each.attempt) for each in taken] == [("b", 1)]
    assert record.done(60.0, "a") == record
    assert record.done(60.0, "b").open == ()


def test_one_firing_waits_at_most() -> None:
    record = claim(Record((0.0,)), 60.0).take("a", "once")[0]
    record = claim(claim(record, 120.0, "a", queue=True), 180.0, "b", queue=True)
    assert [(each.due, each.running) for each in record.open] == [(60.0, True), (180.0, False)]
