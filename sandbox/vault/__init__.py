"""The vault: snapshots of a dataset, sealed column by column, under keys that can be destroyed."""
