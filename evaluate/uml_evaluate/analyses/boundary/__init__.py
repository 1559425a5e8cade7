"""The decision boundary between two classes (paper F.1, F.2)."""
