"""Which encoders there are, by name or as a store recorded them, frozen or to be trained."""
