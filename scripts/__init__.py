"""Command lines around the bundles: `python -m scripts.<name> --help`."""
