"""The nouns: frozen, with canonical bytes, pointing at each other by digest and never by nesting."""
