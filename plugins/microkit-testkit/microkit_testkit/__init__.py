"""Test kit for microkit applications and plugins."""
