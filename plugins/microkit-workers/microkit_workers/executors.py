"""Executors: by name for single bindings, and the one that runs handlers as the mode of their context says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from microkit.executor import ExecutorSpec, in_thread, in_thread_until
from microkit.plan import Plan

from .context import pools_of
from .process.executor import in_child


def _by_mode(plan: Plan) -> Callable[[Any], Awaitable[Any]] | None:
    return in_child(plan) if pools_of(plan.app).of(plan).mode == "process" else None


EXECUTORS = (
    # A coroutine function runs on the event loop under all of them but `process`; a sync one in a thread.
    ExecutorSpec("async", in_thread, wrap_timed=in_thread_until),
    ExecutorSpec("greedy_thread", in_thread, wrap_timed=in_thread_until),
    ExecutorSpec("process", in_thread, wrap_timed=in_thread_until, remote=in_child),
    ExecutorSpec("workers", in_thread, wrap_timed=in_thread_until, remote=_by_mode),
)
