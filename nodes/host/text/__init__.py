"""Prompts into token embeddings, as a MODEL reads them."""
