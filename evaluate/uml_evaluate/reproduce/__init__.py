"""Recipes: which runs repeat the tables and figures of the paper, and what came of them here.

recipe/         what a recipe file says, read strictly; the paper's items, printed numbers, runs and settings
listing.py      all of these, and what can be done here
supply.py       stores of the cache, extracted where they are missing
generated.py    small recipes and data of their shapes
plan.py         what a recipe would do
recipe_run.py   every part that can be run
readings.py     numbers of findings
result.py       the file that can be contributed
show.py         the answer as text
reproducing.py  one recipe from start to end
gaussian/       the experiment on Gaussian data, which has a trainer of its own
"""
