"""Where each model reads the text."""
