"""The closed-form methods, one module each."""
