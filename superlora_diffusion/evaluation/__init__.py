"""Feature extractors, Inception Score and FID, score records, their table and plot.

Import the modules themselves (``evaluation.scores``, ``evaluation.records``, ...): nothing is loaded here, so
that reading a ``scores.json`` costs no torch.
"""
