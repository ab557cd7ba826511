"""Connectors: from a department's files to record batches in storage types, with a report of what was left out."""
