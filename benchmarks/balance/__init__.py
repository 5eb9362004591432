"""Does a mixture of targets give pictures in the shares asked for, and does a strength between 0 and 1 moderate a concept?"""
