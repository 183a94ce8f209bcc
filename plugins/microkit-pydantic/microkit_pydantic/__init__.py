"""Validation by pydantic for microkit."""
