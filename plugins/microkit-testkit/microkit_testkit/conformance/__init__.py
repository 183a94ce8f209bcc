"""Conformance suites: what an author of a plugin runs to know that a component keeps the kernel's rules."""
