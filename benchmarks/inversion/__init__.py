"""Does white-box inversion bring an erased concept back?"""
