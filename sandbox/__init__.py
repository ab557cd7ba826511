"""Saggar: raw data stays in the kiln, only differentially private answers leave."""

__version__ = "0.1.0"
