"""The Hugging Face Hub: what is an id there, downloads into its cache, and its refusals in words.

Tokens are the hub client's own affair (``hf auth login``): none is read, passed on or stored here.
"""
