"""How long does a whole Erase Concepts node take?"""
