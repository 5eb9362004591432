"""Measurements of this pack beside named alternatives."""
