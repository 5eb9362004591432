"""Does erasing erase, does it hold, and what does it cost?"""
