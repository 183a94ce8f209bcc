"""What every message broker must do, as tests: subclass `BrokerSuite` to hold yours to it. Needs pytest."""

from .cases import BrokerSuite
from .harness import Capabilities, Inbox, eventually, sometimes

__all__ = ["BrokerSuite", "Capabilities", "Inbox", "eventually", "sometimes"]
