"""Training: a recipe, a loop that can be interrupted, and the files that it leaves."""
