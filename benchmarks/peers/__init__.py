"""Peers of the engine, each in an environment of its own."""
