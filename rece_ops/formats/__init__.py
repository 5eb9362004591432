"""Files: what may be in them, and how they are written in one step."""
