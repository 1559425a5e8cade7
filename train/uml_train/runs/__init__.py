"""The cells of a run: which there are, what they cost, and who trains them."""
