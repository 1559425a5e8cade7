"""The shared network: its layers, the sequences it reads, its training, what it keeps on disk."""
