"""The city's products: each a plan, an analysis that goes through the front door, and a delivery made outside.

What leaves the sandbox is a release; a product's delivery is computed from releases alone, on the operator's machine.
"""
