"""The hooks of microkit-testkit: drivers of the test client."""
