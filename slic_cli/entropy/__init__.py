"""Exact entropy coding: integer networks that predict probabilities, and the coder that uses them."""
