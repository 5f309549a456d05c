"""Random trouble under many readers that compare every byte. Not run by pytest: see `scripts/chaos`."""
