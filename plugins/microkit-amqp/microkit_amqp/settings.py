"""What the broker is configured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WIRES = ("nameko", "ufw")


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """Settings of microkit-amqp: `MICROKIT_AMQP__<KEY>` and `[tool.microkit.amqp]`.

    Attributes:
        heartbeat: seconds without a sign of life after which a connection counts as lost; `?heartbeat=` in a URL comes
            before it. 0 turns it off.
        connect_timeout: seconds that one attempt to connect may take.
        connect_attempts: attempts at start before it fails; a lost connection is tried again for ever.
        wait_for_broker: try for ever at start as well.
        publish_timeout: seconds in which a message must be confirmed, lost connections included.
        publish_window: messages that may wait for their confirmation at a time.
        ack_batch: acks that are sent together at most.
        ack_delay: seconds that an ack may wait for others.
        delivery_limit: deliveries of a message without an answer, such as by processes that crash, before the broker
            puts it to the dead letters.
        consumer_timeout: seconds after which the broker gives up on a consumer that has not answered a delivery, as the
            broker is configured (`consumer_timeout`); who consumes warns before. 0: never.
        delayed_exchange: delay messages by the broker's plugin rabbitmq_delayed_message_exchange instead of queues.
        rpc_wire: how remote procedures are called and served: `nameko`, or `ufw` for micro-framework.
        management: URL of the broker's management API, such as `http://guest:guest@localhost:15672`. With it all queues
            with dead letters are found, and the state of a queue counts what others work on.
    """

    heartbeat: int = 60
    connect_timeout: float = 10.0
    connect_attempts: int = 5
    wait_for_broker: bool = False
    publish_timeout: float = 30.0
    publish_window: int = 500
    ack_batch: int = 64
    ack_delay: float = 0.005
    delivery_limit: int = 20
    consumer_timeout: float = 1800.0
    delayed_exchange: bool = False
    rpc_wire: str = "nameko"
    management: str = ""

    def __post_init__(self) -> None:
        if self.rpc_wire not in WIRES:
            raise ValueError(f"rpc_wire must be one of {', '.join(WIRES)}")
        if self.heartbeat < 0:
            raise ValueError("heartbeat must be 0 or more seconds")
        if self.connect_attempts < 1 or self.publish_window < 1 or self.ack_batch < 1 or self.delivery_limit < 1:
            raise ValueError("connect_attempts, publish_window, ack_batch and delivery_limit must be at least 1")
        if not (self.connect_timeout > 0 and self.publish_timeout > 0):
            raise ValueError("connect_timeout and publish_timeout must be over 0 seconds")
        if self.ack_delay < 0 or self.consumer_timeout < 0:
            raise ValueError("ack_delay and consumer_timeout must be 0 or more seconds")


def settings_of(app: Any) -> AmqpSettings:
    """The settings of an application, or the defaults where the plugin is not active."""
    return app.all_settings.get("amqp") or AmqpSettings()
