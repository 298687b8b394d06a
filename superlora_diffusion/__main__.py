"""``python -m superlora_diffusion``: the command line."""

from .cli.main import main

main()
