"""Places an order for each item on the command line."""

import sys

from database import BROKER

from microkit import PublicError
from microkit_workers import RpcClient

with RpcClient(BROKER) as system:
    for item in sys.argv[1:]:
        try:
            print(f"order {system.orders.place(item)}: {item}")
        except PublicError as exc:
            sys.exit(f"{item} is not ordered: {exc}")
