"""Models from answers: regressions, scorecards and synthetic tables, all of them post-processing of released answers.

A model asks questions of the ordinary language, through whoever may ask them (`Ask`), and computes from the answers
alone.  So it costs what its questions cost, and its proof is theirs (`docs/proofs/models.md`).
"""
