"""Neurons that fire for both modalities (v1 4.5, F.1)."""
