"""When an expression is due, and which are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microkit_cron.plugin
from microkit import ConfigurationError
from microkit_cron import CRON, Cron
from microkit_testkit.conformance.components import TriggerSuite

pytestmark = pytest.mark.feature("FX-15")


class TestCron(TriggerSuite):
    plugins = (microkit_cron.plugin,)
    spec = CRON

    def make(self) -> Cron:
        return Cron("30 2 * * 1-5", tz="Europe/Berlin")


class TestCronOfMinutes(TriggerSuite):
    plugins = (microkit_cron.plugin,)
    spec = CRON

    def make(self) -> Cron:
        return Cron("*/7 * * * *", tz="Australia/Lord_Howe")


def due(cron: Cron, after: str, count: int) -> list[str]:
    """The next due times after a local time, in the zone, without the year."""
    moment = datetime.fromisoformat(after).replace(tzinfo=cron.zone).timestamp()
    found: list[str] = []
    for _ in range(count):
        moment = cron.next_after(moment)
        found.append(datetime.fromtimestamp(moment, cron.zone).strftime("%m-%d %H:%M %z"))
    return found


# In Berlin clocks go from 02:00 to 03:00 on 29 March 2026, and from 03:00 to 02:00 on 25 October.
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("0,30 2 * * *", ["03-28 02:00 +0100", "03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("0 2,3 * * *", ["03-28 02:00 +0100", "03-28 03:00 +0100", "03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("30 * 29 3 *", ["03-29 00:30 +0100", "03-29 01:30 +0100", "03-29 03:30 +0200"]),
        ("*/30 2 * * *", ["03-28 02:00 +0100", "03-28 02:30 +0100", "03-30 02:00 +0200"]),
    ],
)
def test_a_time_that_does_not_exist(expression: str, expected: list[str]) -> None:
    assert due(Cron(expression, tz="Europe/Berlin"), "2026-03-28T00:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("0,30 2 * * *", ["10-25 02:00 +0200", "10-25 02:30 +0200", "10-26 02:00 +0100"]),
        ("30 * * * *", ["10-25 00:30 +0200", "10-25 01:30 +0200", "10-25 02:30 +0200", "10-25 02:30 +0100"]),
        ("*/30 2 * * *", ["10-25 02:00 +0200", "10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100"]),
    ],
)
def test_a_time_that_exists_twice(expression: str, expected: list[str]) -> None:
    assert due(Cron(expression, tz="Europe/Berlin"), "2026-10-25T00:00", len(expected)) == expected


def test_a_day_whose_midnight_does_not_exist() -> None:
    # In Cairo clocks go from 00:00 to 01:00 on 24 April 2026.
    assert due(Cron("@daily", tz="Africa/Cairo"), "2026-04-23T12:00", 2) == ["04-24 01:00 +0300", "04-25 00:00 +0300"]
    assert due(Cron("*/30 0 * * *", tz="Africa/Cairo"), "2026-04-23T12:00", 1) == ["04-25 00:00 +0300"]


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 31 * *", "2026-01-01", ["2026-01-31", "2026-03-31", "2026-05-31"]),
        ("0 0 L * *", "2028-01-15", ["2028-01-31", "2028-02-29", "2028-03-31"]),
        ("0 0 LW * *", "2026-01-15", ["2026-01-30", "2026-02-27", "2026-03-31"]),
        ("0 0 * * fri#2", "2026-01-01", ["2026-01-09", "2026-02-13", "2026-03-13"]),
        ("0 0 1 * MON", "2026-06-01", ["2026-06-08", "2026-06-15", "2026-06-22", "2026-06-29", "2026-07-01"]),
        ("0 0 * jan-mar sun", "2026-03-20", ["2026-03-22", "2026-03-29", "2027-01-03"]),
        ("@weekly", "2026-01-01", ["2026-01-04", "2026-01-11"]),
        ("@yearly", "2026-06-01", ["2027-01-01", "2028-01-01"]),
    ],
)
def test_days(expression: str, after: str, expected: list[str]) -> None:
    cron, moment, found = Cron(expression), datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp(), []
    for _ in expected:
        moment = cron.next_after(moment)
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d"))
    assert found == expected


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["*/20 * * * *", "5 * * * *", "15 0,2 * * *", "45 1-3 * * *", "0 4 * * sun", "* 2 * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Asia/Kathmandu"]),
    st.floats(1_767_225_600, 1_830_297_600),
)
def test_due_times_only_grow_and_do_not_depend_on_where_one_asks_from(expression: str, tz: str, moment: float) -> None:
    cron = Cron(expression, tz=tz)
    first = cron.next_after(moment)
    second = cron.next_after(first)
    assert moment < first < second
    for between in (first - 0.5, first, first + 0.5, (first + second) / 2, second - 60, second - 0.001):
        assert cron.next_after(between) == (first if between < first else second)


@pytest.mark.parametrize("tz", ["Europe/Berlin", "America/New_York", "Africa/Cairo", "America/Sao_Paulo"])
@pytest.mark.parametrize("expression", ["*/15 * * * *", "10 * * * *", "*/20 1-3 * * *"])
def test_what_follows_the_time_that_passes_is_due_at_each_minute_that_fits(expression: str, tz: str) -> None:
    """Held against every minute of the weeks in which clocks change."""
    cron, zone = Cron(expression, tz=tz), ZoneInfo(tz)
    minutes, _, hours = expression.partition(" ")
    for start in (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 10, 11)):
        end, expected, found = start + timedelta(days=31), list[float](), list[float]()
        moment = start + timedelta(minutes=1)
        while moment < end:
            local = moment.astimezone(zone)
            step = int(minutes.removeprefix("*/"))
            fits = local.minute % step == 0 if minutes.startswith("*/") else local.minute == step
            if fits and (hours.startswith("*") or 1 <= local.hour <= 3):
                expected.append(moment.timestamp())
            moment += timedelta(minutes=1)
        due_at = cron.next_after(start.timestamp())
        while due_at < end.timestamp():
            found.append(due_at)
            due_at = cron.next_after(due_at)
        assert found == expected
        assert all(a < b for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("61 * * * *", ["'61' is no minute", "0-59"]),
        ("* 24 * * *", ["'24' is no hour"]),
        ("* * 0 * *", ["'0' is no day-of-month"]),
        ("* * * foo *", ["'foo' is no month", "JAN-DEC"]),
        ("* * * * 9", ["'9' is no day-of-week"]),
        ("5-1 * * * *", ["'5-1' is no minute"]),
        ("*/0 * * * *", ["'*/0' is no minute"]),
        ("* * * *", ["has 4 fields", "takes five"]),
        ("0 * * * * *", ["has 6 fields", "Every(seconds=...)"]),
        ("", ["has 0 fields"]),
        ("0 0 30 2 *", ["never due"]),
        ("@dayly", ["@dayly is none of", "Did you mean '@daily'"]),
        ("@reboot", ["Every(seconds, immediate=True)"]),
    ],
)
def test_a_wrong_expression_is_refused_where_it_is_declared(expression: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cron(expression)
    assert repr(expression) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tz": "Europe/Berln"}, ["no time zone 'Europe/Berln'", "Did you mean 'Europe/Berlin'"]),
        ({"tz": "../etc/passwd"}, ["no time zone"]),
        ({"overlap": "both"}, ["overlap='both'", "skip, queue, allow"]),
        ({"misfire": "never"}, ["misfire='never'", "once, skip, all"]),
        ({"jitter": -1.0}, ["jitter"]),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cron("0 3 * * *", **options)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


def test_a_machine_without_zones_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    import zoneinfo
    from zoneinfo import ZoneInfoNotFoundError

    monkeypatch.setattr("microkit_cron.expression.ZoneInfo", nothing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(ConfigurationError, match="install the distribution tzdata"):
        Cron("0 3 * * *", tz="Europe/Berlin")
