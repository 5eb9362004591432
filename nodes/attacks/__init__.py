"""Nodes that try to bring an erased concept back."""
