"""Samples go through an encoder: in batches that fit the device, task after task, written behind."""
