"""What pytest loads: fixtures and markers for tests of microkit applications and plugins."""
