"""Time and memory of an erasure."""
