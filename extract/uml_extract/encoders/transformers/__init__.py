"""Text and audio encoders of the transformers library."""
