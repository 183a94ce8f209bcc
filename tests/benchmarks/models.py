"""The model of the 1 KB body, and the two dependencies that every framework is given."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import BaseModel


class Line(BaseModel):
    sku: str
    count: int
    price: float
    tags: list[str]


class Order(BaseModel):
    id: int
    customer: str
    note: str
    lines: list[Line]


async def current_user() -> str:
    return "somebody"


async def open_session() -> AsyncIterator[dict[str, int]]:
    """Finished before the reply is sent, where the framework can."""
    session = {"count": 1}
    try:
        yield session
    finally:
        session["count"] = 0
