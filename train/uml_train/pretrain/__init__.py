"""A shared transformer that learns without labels, or beside few (paper Alg. 1, Sections 4.1 and B.4.1)."""
