"""Texts for classes: prompts and descriptions, and which classes a text mentions."""
