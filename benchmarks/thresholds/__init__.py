"""From which numbers on do pictures show it?"""
