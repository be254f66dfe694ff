"""``python -m baco`` is the command ``baco``."""

from baco.cli import main

main()
