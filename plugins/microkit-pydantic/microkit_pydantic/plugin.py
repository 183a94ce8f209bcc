"""The hooks of microkit-pydantic: a validator for models, TypedDicts and containers."""
