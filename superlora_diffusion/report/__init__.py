"""Runs made comparable: an HTML page, plots and tables of score against parameter count. Imports no torch."""
