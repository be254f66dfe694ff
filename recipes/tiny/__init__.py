"""Trains and evaluates the bundled pair: ``python -m recipes.tiny.train``, ``...evaluate``."""
