"""How the folders of the benchmarks look, one module for each family of them."""
