"""Runs on other machines: what they need is brought there, the same functions do them, results are brought back."""
