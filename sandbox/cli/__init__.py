"""`saggar …`: one verb a user story."""
