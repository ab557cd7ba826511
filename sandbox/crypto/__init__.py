"""Two suites of cryptography behind one interface, each primitive gated by official vectors.

`gm` (SM2, SM3, SM4-GCM) is the default, since the law asks for commercial cryptography; `intl` (Ed25519, X25519,
SHA-256, AES-256-GCM) is its twin.  The rooms above sign and verify with `signing`, seal to a person with `envelope`,
seal data with `suites`, keep keys with `keyfile` and replace identifiers with `tokens`.
"""
