"""A finished run's adapter and data as folders that the Hugging Face Hub takes as they are."""
