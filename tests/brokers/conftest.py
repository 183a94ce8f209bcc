"""Applications on a private RabbitMQ: what microkit-workers and microkit-amqp do together, and neither tests alone."""

from __future__ import annotations

from tests.rabbitmq.fixtures import proxy, rabbit, url, vhost

__all__ = ["proxy", "rabbit", "url", "vhost"]
