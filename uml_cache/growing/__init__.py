"""Stores that grow: a new state is put together from the one before and from what is new."""
