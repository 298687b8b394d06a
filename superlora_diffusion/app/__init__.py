"""A page in the browser: base and adapter side by side, mixes, and a sweep's front to choose from.

All that it does is in plain classes (``session``, ``sweeps``, ``pictures``); ``page`` alone knows gradio.
"""
