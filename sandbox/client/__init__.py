"""What an operator's side runs: it signs what it asks, and verifies what it is told."""
