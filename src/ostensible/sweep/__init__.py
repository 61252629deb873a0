"""Many runs at once: what they are, doing them, and what they show together."""
