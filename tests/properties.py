"""How property tests run: a machine that is slow, or that stands still for a moment, fails none of them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
