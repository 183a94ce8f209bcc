"""The whole suite."""

from __future__ import annotations

from .answers import AnswerCases
from .delays import DelayCases
from .procedures import ProcedureCases
from .queues import QueueCases


class BrokerSuite(QueueCases, AnswerCases, DelayCases, ProcedureCases):
    """What a broker must do. Subclass it under a name that begins with `Test`, and override `broker` and `another`;
    what your broker cannot do goes, with the reason, into `capabilities`. Coroutine tests run by anyio's plugin."""
