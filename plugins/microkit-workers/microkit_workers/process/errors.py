"""What a call in a child process may fail with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from microkit import PublicError, StatusCode


class WorkerCrashed(PublicError):
    """The child process that ran a call ended in the middle of it. Counts as a failed attempt of that call alone."""

    status = StatusCode.INTERNAL


class RemoteFailure(Exception):
    """A handler in a child process raised something that is not public. Its text and traceback are in the child's log;
    here it is an exception whose class has the name of the original one.

    Attributes:
        class_names: `module.qualname` of the original class and its bases, for retry policies.
    """

    class_names: Sequence[str] = ()


def remote_failure(class_names: Sequence[str]) -> RemoteFailure:
    """The stand-in for an exception of a child process. Nothing is imported by these names.

    Args:
        class_names: of its class and the bases of that.
    """
    names = tuple(class_names) or ("builtins.Exception",)
    return _class_of(names)(f"{names[0]} in a child process; its log tells more")


@cache
def _class_of(names: tuple[str, ...]) -> type[RemoteFailure]:
    return type(names[0].rpartition(".")[2], (RemoteFailure,), {"class_names": names, "__module__": __name__})
