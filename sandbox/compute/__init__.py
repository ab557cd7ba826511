"""Run a bounded integer aggregation over partitions."""
