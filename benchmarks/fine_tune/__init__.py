"""Does an eraser hold on a fine-tune?"""
