"""The models of a pair: how they are found, loaded and prompted, and what memory they need."""
