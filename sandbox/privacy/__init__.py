"""The privacy engine: check a question, plan it, quote it, measure it, verify what was released."""
