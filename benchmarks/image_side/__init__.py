"""A trial: erasing what the model draws of a concept, in what each cross-attention writes."""
