"""An organism in a terminal: what it says with its trigger and without, side by side."""
