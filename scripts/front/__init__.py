"""Parts of make_front.py: what is gathered, compared, written and drawn."""
