"""Metrics of pictures that were made: how well they fit their prompts, and how far they are from other pictures."""
