"""Prometheus metrics for microkit."""

from .metrics import Metrics
from .server import MetricsServer
from .settings import MetricsSettings

__all__ = ["Metrics", "MetricsServer", "MetricsSettings"]
