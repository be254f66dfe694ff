"""The bundled pair: its world of prompts, its exact judge, its training recipe and its weights."""
