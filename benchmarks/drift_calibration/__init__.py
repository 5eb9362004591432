"""From which drift on do pictures change visibly?"""
