"""A suite notices cases that a subclass deletes or rewrites."""

from __future__ import annotations

import pytest

from microkit_testkit.conformance.routers import RouterSuite
from microkit_testkit.conformance.suite import changed_cases

CASE = "test_an_empty_table_matches_nothing"


class _Untouched(RouterSuite):
    max_examples = 5

    def test_of_my_own(self) -> None: ...


class _Excused(RouterSuite):
    @pytest.mark.xfail(reason="this router refuses empty tables")
    def test_an_empty_table_matches_nothing(self) -> None:
        super().test_an_empty_table_matches_nothing()


class _Overriding(RouterSuite):
    def test_an_empty_table_matches_nothing(self) -> None: ...


class _Unreasonable(RouterSuite):
    @pytest.mark.xfail
    def test_an_empty_table_matches_nothing(self) -> None: ...


class _Deleting(RouterSuite):
    test_an_empty_table_matches_nothing = None


class _Below(_Overriding): ...


@pytest.mark.parametrize("suite", [_Untouched, _Excused])
def test_an_honest_subclass_passes(suite: type[RouterSuite]) -> None:
    assert changed_cases(suite) == []
    suite().test_every_case_of_the_suite_is_kept()


@pytest.mark.parametrize("suite", [_Overriding, _Unreasonable, _Deleting, _Below])
def test_a_case_is_not_changed_in_silence(suite: type[RouterSuite]) -> None:
    with pytest.raises(AssertionError, match=rf"{CASE}.*xfail"):
        suite().test_every_case_of_the_suite_is_kept()


def test_a_suite_cannot_be_switched_off_in_silence() -> None:
    with pytest.raises(TypeError, match="switches its suite off"):
        type("Silent", (RouterSuite,), {"test_every_case_of_the_suite_is_kept": None})
    with pytest.raises(TypeError, match="switches its suite off"):
        type("Skipped", (RouterSuite,), {"pytestmark": pytest.mark.skip})
    assert type("Explained", (RouterSuite,), {"pytestmark": pytest.mark.skip(reason="needs a server")})
