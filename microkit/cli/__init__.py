"""The `microkit` program."""
