"""What an organism is made of: triggers, CoT policies, payloads, and rules that recognise a payload."""
