"""Prints, as JSON, the versions of what all frameworks share in the environment that it runs in."""

from __future__ import annotations

import json

from tests.benchmarks.environment import SHARED, version_of

if __name__ == "__main__":
    print(json.dumps({name: version_of(name) for name in SHARED}))
