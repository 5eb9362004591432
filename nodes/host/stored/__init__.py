"""Models as they lie on the disk, never loaded as a whole."""
