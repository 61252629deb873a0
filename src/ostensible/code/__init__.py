"""Coding tasks with a secure and a vulnerable solution, and oracles that tell which one a reply is."""
