"""Monitors: from what is seen of a reply to how suspicious it is, a score in [0, 1]."""
