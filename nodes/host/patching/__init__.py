"""Reading a MODEL's weights and changing them, by patches of a clone."""
