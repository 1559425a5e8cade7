"""Recipes: which runs repeat the tables and figures of the paper, and what came of them here.

recipe.py       what a recipe file says, read strictly
published.py    numbers that were printed, and numbers that were measured
items.py        the paper's tables and figures, and their recipes
listing.py      all of these, and what can be done here
settings.py     from a recipe to the settings and grid files of `uml_train`
parts.py        from a recipe to its runs and what each of them reads
supply.py       stores of the cache, extracted where they are missing
generated.py    small recipes and data of their shapes
plan.py         what a recipe would do
recipe_run.py   every part that can be run
readings.py     numbers of findings
result.py       the file that can be contributed
show.py         the answer as text
reproducing.py  one recipe from start to end
gaussian.py     the experiment on Gaussian data, which has a trainer of its own
"""
