"""Both towers of the models of the open_clip library."""
