"""Growing a store: what is new or changed in the data is extracted, and added as a new state."""
