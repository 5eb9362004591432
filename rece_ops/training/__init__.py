"""The mathematics of erasers that are trained: what is changed, what it is pulled to, and who attacks it meanwhile."""
