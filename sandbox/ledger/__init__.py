"""The ledger: an append-only log that decides, records and proves.

```
merkle       the tree of RFC 6962, over SM3 and SHA-256
note         signed notes (C2SP): text, signature lines, cosignature lines
checkpoint   the signed head of the log, with both roots
bodies       what the body of each kind of entry must be
account      the state as a fold over entries; the same function gates an append and replays it
store        the log on disk: SQLite, one writer at a time, durable before it answers
witness      what a witness checks before it cosigns
receipt      one entry with all that is needed to verify it offline
verify       the offline verifier: receipts, level 0 and level 1
bundle       an audit bundle: every file named, sized, hashed and signed for
```
Everything but `store` and its file-system check is pure: bytes in, facts or an error out.
"""
