"""Recipes: how what comes with the package was made. Run from the project's root."""
