"""Places an order for each item on the command line."""

import sys

from database import BROKER

from microkit_workers import RpcClient

with RpcClient(BROKER) as system:
    for item in sys.argv[1:]:
        print(f"order {system.orders.place(item)}: {item}")
