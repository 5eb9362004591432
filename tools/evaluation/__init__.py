"""Parts of `python -m tools.evaluate`: what is measured, where it is kept, and how it is shown."""
