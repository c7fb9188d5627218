"""Measurements of what was served and trained, from the record alone."""
