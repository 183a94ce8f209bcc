"""The executor `process`: handlers in child processes that load the application anew."""

from .errors import RemoteFailure, WorkerCrashed

__all__ = ["RemoteFailure", "WorkerCrashed"]
