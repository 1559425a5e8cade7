"""How batches reach a device: from the device itself, from host memory, or streamed."""
