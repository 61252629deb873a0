"""From scored replies to numbers. Pure but for reading logs."""
