"""HTTP servers for microkit."""
