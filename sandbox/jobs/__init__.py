"""The line of a job: the one room that brings the pillars together."""
