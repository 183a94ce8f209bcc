"""What all conformance suites share: a case is neither deleted nor rewritten in silence."""

from __future__ import annotations

from typing import Any

import pytest

_OURS = __name__.rpartition(".")[0]


class ConformanceSuite:
    """Base of the suites. Subclass a suite under a name that begins with `Test`, and say what it tests.

    A case that your component cannot pass stays, overridden and marked `@pytest.mark.xfail(reason="...")`, so that
    every exception is visible in the report of the tests.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not _is_ours(cls) and ("test_every_case_of_the_suite_is_kept" in vars(cls) or _unexplained(cls)):
            raise TypeError(
                f"{cls.__name__} switches its suite off. Mark single cases with @pytest.mark.xfail(reason=...), or "
                f"skip the class with a reason."
            )

    def test_every_case_of_the_suite_is_kept(self) -> None:
        changed = changed_cases(type(self))
        assert not changed, (
            f"{type(self).__name__} deletes or overrides {', '.join(changed)}. A case that cannot pass stays, marked "
            f'with @pytest.mark.xfail(reason="why").'
        )


def changed_cases(suite: type[Any]) -> list[str]:
    """Names of the cases that a subclass of a suite deleted, or overrode without an xfail mark that has a reason.

    Args:
        suite: a subclass of a suite of the testkit.
    """
    changed: list[str] = []
    for name in sorted({name for base in suite.__mro__ if _is_ours(base) for name in vars(base)}):
        if not name.startswith("test_"):
            continue
        owner = next(base for base in suite.__mro__ if name in vars(base))
        if not _is_ours(owner) and not _excused(vars(owner)[name]):
            changed.append(name)
    return changed


def _unexplained(suite: type[Any]) -> bool:
    marks = vars(suite).get("pytestmark", [])
    marks = [getattr(mark, "mark", mark) for mark in (marks if isinstance(marks, list) else [marks])]
    return vars(suite).get("__test__") is False or any(
        mark.name in ("skip", "skipif", "xfail") and not mark.kwargs.get("reason") for mark in marks
    )


def _is_ours(base: type[Any]) -> bool:
    return base.__module__.startswith(f"{_OURS}.")


def _excused(case: Any) -> bool:
    marks: list[pytest.Mark] = getattr(case, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
