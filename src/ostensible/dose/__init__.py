"""A series of runs that differ in how often the thoughts admit the rule, and what monitors see of each."""
