"""Closed-form attacks on an erasure."""
