"""The hooks of microkit-serve: HTTP servers as transports."""
