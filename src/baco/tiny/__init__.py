"""The bundled pair: its world of prompts, its exact judge and its weights."""
