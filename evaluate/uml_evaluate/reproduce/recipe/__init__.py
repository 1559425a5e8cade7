"""What a recipe says, and the numbers that were printed for it."""
