"""New files through a run: the recorded encoder, the best head, and a table of predictions."""
