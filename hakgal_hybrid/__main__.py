"""``python -m hakgal_hybrid`` is ``hakgal-hybrid``."""

from .tools.cli import main

main(prog_name="hakgal-hybrid")
