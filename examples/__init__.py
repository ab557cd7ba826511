"""Examples that run: real data, a description, an agreement, jobs, and attacks that are refused."""
