"""The bench: from a plan to the paper's tables and figures, resumable at the sample."""
