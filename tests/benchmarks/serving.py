"""The application that a server of the benchmarks runs, chosen by two environment variables."""

from __future__ import annotations

import importlib
import os

app = importlib.import_module(f"tests.benchmarks.peers.with_{os.environ['BENCH_PEER']}").CASES[
    os.environ["BENCH_CASE"]
]()
