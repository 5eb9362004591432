"""Numbers that say what an erasure did; the sentences about them are made elsewhere."""
