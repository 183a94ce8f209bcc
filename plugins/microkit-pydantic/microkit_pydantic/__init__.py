"""Validation by pydantic for microkit."""

from .claims import VALIDATOR

__all__ = ["VALIDATOR"]
