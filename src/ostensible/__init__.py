"""Model organisms of unfaithful chain of thought (CoT) in reasoning models.

The data flows one way, and so do the imports:

    prompts -> traces -> dataset -> train -> evaluate -> analyse -> report
"""

__version__ = "0.1.0"
