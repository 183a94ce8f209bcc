"""Settings of microkit-workers."""

from __future__ import annotations

from dataclasses import dataclass

MODES = ("async", "thread", "greedy_thread", "process")


@dataclass(frozen=True, slots=True)
class WorkersSettings:
    """Settings of microkit-workers: `MICROKIT_WORKERS__<KEY>` and `[tool.microkit.workers]`.

    Attributes:
        broker: URL of the broker that events, queues and remote procedures go over.
        service: name of the service: prefix of its queues, source of what it publishes. Empty: name of the app.
        max_workers: calls at a time, of each context that does not say it itself, and of all handlers outside of
            contexts together.
        worker_mode: where handlers run: `async` (coroutines on the event loop), `thread`, `greedy_thread` (finishes at
            stop what was taken in), `process`.
        max_tasks_per_child: calls after which a child process is replaced; 0: never.
        prefetch_factor: messages taken from each queue at a time, per worker of its context.
        max_message_size: bytes; larger ones go to the dead letters.
        connect_patience: seconds to wait for a broker that cannot be reached at start; negative: without limit.
        consumer_timeout: seconds after which the broker gives up on a consumer that has not answered; a warning comes
            at 80 percent of it. None: as the broker says; 0: no warning.
        loop_block_warning: seconds that a handler may block the event loop before that is reported; 0: no watch.
        queue_interval: seconds between two looks at the queues on their broker, whose messages and dead letters are
            measured, and new dead letters logged; 0: none.
        rpc_timeout: seconds that a call of a remote procedure waits, unless the caller says otherwise.
        batch_size: messages at most in one call of a binding with `batch=True`.
        batch_wait: seconds that the first message of a batch waits for others.
        application: `module:attribute` that child processes load, where that cannot be found out.
        child_start_timeout: seconds that a child process may take to load the application.
    """

    broker: str = "memory://"
    service: str = ""
    max_workers: int = 10
    worker_mode: str = "async"
    max_tasks_per_child: int = 0
    prefetch_factor: float = 1.0
    max_message_size: int = 16 * 1024 * 1024
    connect_patience: float = 15.0
    consumer_timeout: float | None = None
    loop_block_warning: float = 0.0
    queue_interval: float = 30.0
    rpc_timeout: float = 30.0
    batch_size: int = 100
    batch_wait: float = 0.1
    application: str = ""
    child_start_timeout: float = 30.0

    def __post_init__(self) -> None:
        if self.worker_mode not in MODES:
            raise ValueError(f"worker_mode must be one of {', '.join(MODES)}")
        for name in ("max_workers", "max_message_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_tasks_per_child < 0:
            raise ValueError("max_tasks_per_child must not be negative; 0 is without limit")
        for name in ("prefetch_factor", "rpc_timeout", "batch_wait", "child_start_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be over 0")
        if (self.consumer_timeout or 0) < 0 or self.loop_block_warning < 0 or self.queue_interval < 0:
            names = "consumer_timeout, loop_block_warning and queue_interval"
            raise ValueError(f"{names} must not be negative; 0 turns them off")
