"""Heads and how they are trained: weights, grids, many at once, one by one, and what is taken away."""
