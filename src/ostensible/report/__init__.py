"""What a person looks at: plots and one page, made from results and replies only."""
