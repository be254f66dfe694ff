"""Benchmarks: `make bench`. Figures are ratios within one run, and counts of forward passes."""
