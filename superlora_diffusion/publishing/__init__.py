"""Adapters for others: what is published of a run, its model card, and the upload to the hub."""
